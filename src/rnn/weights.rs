//! Weights of other libraries, whose gates come in other orders.

use super::Cell;
use super::check::CHECK;
use crate::Result;
use crate::backend::Cpu;
use crate::element::Float;
use crate::tensor::Tensor;

/// Whose order the gates of weights are in. Those of FlashRNN need none: its R (G, N, D, P), its b
/// (G, N, D) and its Wx (B, T, G, N, D) are this crate's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// PyTorch's `nn.RNN`, `nn.LSTM` and `nn.GRU`, and candle's: i f g o; r z n.
    Torch,
    /// ONNX's operators, GRU with `linear_before_reset`: i o f c; z r h.
    Onnx,
}

/// Weights of one layer and direction with H hidden units and G gates.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, T: Float> {
    /// (G H, H): `weight_hh_l0`, or `R[0]`.
    pub recurrent: &'a Tensor<Cpu, T>,
    /// (G H): `bias_ih_l0`, or the first half of `B[0]`.
    pub input_bias: Option<&'a Tensor<Cpu, T>>,
    /// (G H): `bias_hh_l0`, or the second half of `B[0]`.
    pub recurrent_bias: Option<&'a Tensor<Cpu, T>>,
}

/// Recurrent matrix and bias of one head in this crate's order.
#[derive(Clone, Debug)]
pub struct Parameters<T: Float> {
    /// (Gr, 1, H, H).
    pub r: Tensor<Cpu, T>,
    /// (Gb, 1, H).
    pub b: Tensor<Cpu, T>,
}

impl Order {
    /// Where their gates stand among the gates of `wx`: block `k` of the input projection, and of
    /// its weight, is theirs of number `input_gates(cell)?[k]`.
    ///
    /// ```
    /// use warpwright::rnn::{Cell, Order};
    ///
    /// // Ours are i f z o; ONNX has i o f c.
    /// assert_eq!(Order::Onnx.input_gates(Cell::Lstm)?, [0, 2, 3, 1]);
    /// # Ok::<(), warpwright::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) for sLSTM, which these libraries lack.
    pub fn input_gates(self, cell: Cell) -> Result<&'static [usize]> {
        match (self, cell) {
            (_, Cell::Elman(_)) => Ok(&[0]),
            (Self::Torch, Cell::Lstm) => Ok(&[0, 1, 2, 3]),
            (Self::Onnx, Cell::Lstm) => Ok(&[0, 2, 3, 1]),
            (Self::Torch, Cell::Gru) => Ok(&[0, 1, 2]),
            (Self::Onnx, Cell::Gru) => Ok(&[1, 0, 2]),
            (_, Cell::Slstm) => Err(CHECK.wrong_option("cell", "elman, lstm or gru", cell.name())),
        }
    }

    /// The recurrent matrix and the bias of these weights.
    ///
    /// ```
    /// use warpwright::Tensor;
    /// use warpwright::rnn::{Cell, Order, Weights};
    ///
    /// // One unit: r, z, n.
    /// let recurrent = Tensor::from_vec(vec![1.0f32, 2.0, 3.0], &[3, 1])?;
    /// let weights = Weights { recurrent: &recurrent, input_bias: None, recurrent_bias: None };
    /// let parameters = Order::Torch.parameters(Cell::Gru, &weights)?;
    /// assert_eq!(parameters.r.to_vec()?, [3.0, 1.0, 2.0]);
    /// assert_eq!(parameters.b.to_vec()?, [0.0; 4]);
    /// # Ok::<(), warpwright::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`input_gates`](Self::input_gates), and [`Error::Shape`](crate::Error::Shape) where the weights do not fit.
    pub fn parameters<T: Float>(
        self,
        cell: Cell,
        weights: &Weights<'_, T>,
    ) -> Result<Parameters<T>> {
        let gates = self.input_gates(cell)?;
        let width = match **weights.recurrent.shape() {
            [rows, width] if rows == gates.len() * width => width,
            _ => {
                let expected = format!("shape ({} H, H)", gates.len());
                return Err(CHECK.wrong_shape("recurrent", weights.recurrent, expected));
            }
        };
        let bias = |name, bias: Option<&Tensor<Cpu, T>>| -> Result<Vec<f64>> {
            let length = gates.len() * width;
            let Some(bias) = bias else { return Ok(vec![0.0; length]) };
            CHECK.shape(name, bias, &[("G H", length)])?;
            Ok(bias.to_vec()?.into_iter().map(T::to_f64).collect())
        };
        let input_bias = bias("input_bias", weights.input_bias)?;
        let recurrent_bias = bias("recurrent_bias", weights.recurrent_bias)?;
        // Their number of each gate in our order; GRU's candidate, our n of the input, is g first.
        let (recurrent, biases): (Vec<usize>, Vec<(usize, bool, bool)>) = match cell {
            Cell::Gru => {
                let (r, z, n) = (gates[0], gates[1], gates[2]);
                let both = |gate| (gate, true, true);
                (vec![n, r, z], vec![(n, false, true), both(r), both(z), (n, true, false)])
            }
            _ => (gates.to_vec(), gates.iter().map(|&gate| (gate, true, true)).collect()),
        };
        let matrix = weights.recurrent.to_vec()?;
        let block = width * width;
        let r = recurrent.iter().flat_map(|gate| &matrix[gate * block..][..block]).copied();
        let sum = |at: usize, of_input: bool, of_recurrent: bool| {
            let part = |bias: &[f64], counts: bool| if counts { bias[at] } else { 0.0 };
            T::from_f64(part(&input_bias, of_input) + part(&recurrent_bias, of_recurrent))
        };
        let b = biases.iter().flat_map(|&(gate, of_input, of_recurrent)| {
            (gate * width..(gate + 1) * width).map(move |at| (at, of_input, of_recurrent))
        });
        let b = b.map(|(at, of_input, of_recurrent)| sum(at, of_input, of_recurrent)).collect();
        Ok(Parameters {
            r: Tensor::from_vec(r.collect(), &[recurrent.len(), 1, width, width])?,
            b: Tensor::from_vec(b, &[biases.len(), 1, width])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_do_not_fit_are_refused() {
        let recurrent = Tensor::from_vec(vec![0.0f32; 8], &[4, 2]).unwrap();
        let bias = Tensor::from_vec(vec![0.0f32; 3], &[3]).unwrap();
        let weights =
            Weights { recurrent: &recurrent, input_bias: Some(&bias), recurrent_bias: None };
        let message = |cell| Order::Onnx.parameters(cell, &weights).unwrap_err().to_string();
        assert!(message(Cell::Lstm).contains("`recurrent`: expected shape (4 H, H)"));
        assert!(message(Cell::Slstm).contains("expected elman, lstm or gru, found slstm"));
        let recurrent = Tensor::from_vec(vec![0.0f32; 4], &[2, 2]).unwrap();
        let weights = Weights { recurrent: &recurrent, ..weights };
        let message = Order::Torch.parameters(Cell::ELMAN, &weights).unwrap_err().to_string();
        assert!(message.contains("`input_bias`: expected shape (G H) = (2)"), "{message}");
    }
}
