//! How a recurrence is to be run.

use super::check::CHECK;
use super::{Activation, Cell};
use crate::Result;
use crate::operation::Settings;

/// The order of the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the first step to the last.
    #[default]
    Forward,
    /// From the last step of each row to the first; outputs lie at their natural steps.
    Reverse,
}

/// What the forward pass keeps of each step for the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Save {
    /// Nothing: there will be no backward pass.
    #[default]
    Nothing,
    /// The gates in the type of `wx`, the states c and n in f32.
    Narrow,
    /// All of them in f32.
    Wide,
}

/// How a recurrence is to be run. Made by [`Options::new`] and the `with_…` methods.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// What a step computes.
    pub cell: Cell,
    /// The order of the steps.
    pub direction: Direction,
    /// What the forward pass keeps for the backward pass.
    pub save: Save,
    /// Whether c, n and m of every step are outputs.
    pub states: bool,
    /// The largest magnitude of h; what is larger is clamped.
    pub output_clip: Option<f32>,
    /// The least normaliser n of sLSTM; 0 for none. It matters only for given states with
    /// 0 < n0 < 1.
    pub n_floor: f32,
    /// The largest magnitude of the gradient that h gets from a later step; what is larger is
    /// clamped. Gradients of `last_h`, and those of `h0`, are not.
    pub grad_clip: Option<f32>,
    /// Whether NaN and infinity in that gradient become 0.
    pub nan_to_zero: bool,
    /// Whether no gradient goes through the recurrent matrix to the step before.
    pub grad_cut: bool,
    /// The kernel variant to use instead of the one that the plan would choose, in the pass that
    /// it is made for.
    pub variant: Option<String>,
}

impl Options {
    /// A recurrence of this cell; all else is as usual.
    pub fn new(cell: Cell) -> Self {
        Self {
            cell,
            direction: Direction::Forward,
            save: Save::Nothing,
            states: false,
            output_clip: None,
            n_floor: 1.0,
            grad_clip: None,
            nan_to_zero: false,
            grad_cut: false,
            variant: None,
        }
    }

    /// With the steps in this order.
    pub fn with_direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// With what the backward pass needs kept.
    pub fn with_save(mut self, save: Save) -> Self {
        self.save = save;
        self
    }

    /// With c, n and m of every step as outputs.
    pub fn with_states(mut self, states: bool) -> Self {
        self.states = states;
        self
    }

    /// With h clamped to this magnitude.
    pub fn with_output_clip(mut self, output_clip: f32) -> Self {
        self.output_clip = Some(output_clip);
        self
    }

    /// With this least normaliser of sLSTM.
    pub fn with_n_floor(mut self, n_floor: f32) -> Self {
        self.n_floor = n_floor;
        self
    }

    /// With the gradient that h gets from a later step clamped to this magnitude.
    pub fn with_grad_clip(mut self, grad_clip: f32) -> Self {
        self.grad_clip = Some(grad_clip);
        self
    }

    /// With zeros for NaN and infinity in that gradient.
    pub fn with_nan_to_zero(mut self, nan_to_zero: bool) -> Self {
        self.nan_to_zero = nan_to_zero;
        self
    }

    /// Without a gradient through the recurrent matrix to the step before.
    pub fn with_grad_cut(mut self, grad_cut: bool) -> Self {
        self.grad_cut = grad_cut;
        self
    }

    /// With this kernel variant, as listed by `warpwright list`.
    pub fn with_variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = Some(variant.into());
        self
    }

    /// The options that texts under their names set.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) where there is no cell, and as [`set`](Self::set).
    pub fn from_settings(settings: &Settings) -> Result<Self> {
        let expected = "elman, lstm, gru or slstm";
        let texts = &settings.options;
        let cell = texts.get("cell").ok_or_else(|| CHECK.wrong_option("cell", expected, "none"))?;
        let mut options = Self::new(Cell::ELMAN);
        // What an activation belongs to has to be known first.
        options.set("cell", cell)?;
        for (key, value) in texts.iter().filter(|(key, _)| *key != "cell") {
            options.set(key, value)?;
        }
        options.variant.clone_from(&settings.variant);
        Ok(options)
    }

    /// Sets the option `key` from text, as it stands in case files and on the command line. The
    /// cell comes first: with it, activations are as usual.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) for an unknown key or a value that makes no sense.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "cell" => {
                let found = Cell::ALL.into_iter().find(|cell| cell.name() == value);
                let expected = "elman, lstm, gru or slstm";
                self.cell = found.ok_or_else(|| CHECK.wrong_option(key, expected, value))?;
            }
            "activation" => {
                let activation = match value {
                    "tanh" => Activation::Tanh,
                    "relu" => Activation::Relu,
                    _ => return Err(CHECK.wrong_option(key, "tanh or relu", value)),
                };
                match self.cell {
                    Cell::Elman(_) => self.cell = Cell::Elman(activation),
                    _ if activation == Activation::Tanh => {}
                    _ => return Err(CHECK.wrong_option(key, "tanh, but for elman", value)),
                }
            }
            "direction" => {
                self.direction = match value {
                    "forward" => Direction::Forward,
                    "reverse" => Direction::Reverse,
                    _ => return Err(CHECK.wrong_option(key, "forward or reverse", value)),
                }
            }
            "saved" => {
                self.save = match value {
                    "none" => Save::Nothing,
                    "io" => Save::Narrow,
                    "f32" => Save::Wide,
                    _ => return Err(CHECK.wrong_option(key, "none, io or f32", value)),
                }
            }
            "output_clip" => self.output_clip = Some(CHECK.number(key, value)?),
            "n_floor" => self.n_floor = CHECK.number(key, value)?,
            "grad_clip" => self.grad_clip = Some(CHECK.number(key, value)?),
            "nan_to_zero" => self.nan_to_zero = CHECK.truth(key, value)?,
            "grad_cut" => self.grad_cut = CHECK.truth(key, value)?,
            _ => {
                let expected = "one of cell, activation, direction, saved, output_clip, n_floor, \
                                grad_clip, nan_to_zero, grad_cut";
                return Err(CHECK.wrong_option(key, expected, "an unknown option"));
            }
        }
        self.check()
    }

    /// The options make sense.
    pub(crate) fn check(&self) -> Result<()> {
        let clips = [("output_clip", self.output_clip), ("grad_clip", self.grad_clip)];
        for (name, clip) in clips.into_iter().filter_map(|(name, clip)| Some((name, clip?))) {
            if clip.is_nan() || clip <= 0.0 {
                return Err(CHECK.wrong_option(name, "a positive number", &clip.to_string()));
            }
        }
        if !(0.0..f32::INFINITY).contains(&self.n_floor) {
            let found = self.n_floor.to_string();
            return Err(CHECK.wrong_option("n_floor", "a finite number, 0 or more", &found));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_text() {
        let mut options = Options::new(Cell::Lstm);
        for (key, value) in [
            ("cell", "elman"),
            ("activation", "relu"),
            ("direction", "reverse"),
            ("output_clip", "2.5"),
            ("grad_clip", "1"),
            ("grad_cut", "true"),
        ] {
            options.set(key, value).unwrap();
        }
        let same = Options::new(Cell::RELU)
            .with_direction(Direction::Reverse)
            .with_output_clip(2.5)
            .with_grad_clip(1.0)
            .with_grad_cut(true);
        assert_eq!(options, same);
    }

    #[test]
    fn wrong_options_say_what_would_be_right() {
        let message = |key, value| Options::new(Cell::Gru).set(key, value).unwrap_err().to_string();
        assert_eq!(
            message("cell", "rnn"),
            "rnn: option `cell`: expected elman, lstm, gru or slstm, found rnn"
        );
        assert!(message("activation", "relu").contains("expected tanh, but for elman"));
        assert!(message("direction", "both").contains("forward or reverse"));
        assert!(message("grad_clip", "-1").contains("expected a positive number"));
        assert!(message("n_floor", "inf").contains("expected a finite number"));
        assert!(message("zoneout", "0.1").contains("unknown option"));
    }
}
