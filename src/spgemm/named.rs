//! The product of matrices whose names and types are known only at run time, as files give them.
//!
//! A matrix X is three tensors: `x_row_ptr`, `x_col` (I32, I64, U32 or U64) and `x_val`; without
//! values it is a pattern. The sides of A and B are options, `a_shape` and `b_shape`.

use std::time::Instant;

use super::options::SHAPES;
use super::{
    AXES, CHECK, Inputs, Matrices, NAME, Options, Problem, Semiring, Summary, cpu,
    multiply_with_summary,
};
use crate::backend::{Cpu, Device, Named};
use crate::element::DType;
use crate::named::Reader;
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::sparse::{Csr, Value};
use crate::tensor::View;
use crate::{Error, Result};

/// The matrices, and whether each must be there.
const MATRICES: [(&str, bool); 4] = [("a", true), ("b", true), ("c0", false), ("mask", false)];

/// SpGEMM as an [`Operation`].
pub(crate) struct RunTime;

impl Operation for RunTime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn axes(&self) -> &'static [Axis] {
        &AXES
    }

    fn check(&self, named: &Named<Cpu>, settings: &Settings) -> Result<()> {
        let options = Options::from_settings(settings)?;
        let types = Types::of(named, &options)?;
        types.with(CheckOnly { named, settings, options: &options })
    }

    fn run(&self, device: &Device, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        let options = Options::from_settings(settings)?;
        let types = Types::of(named, &options)?;
        types.with(RunOn { device, named, settings, options: &options })
    }

    fn plan(
        &self,
        device: &Device,
        _dtype: DType,
        sizes: &Sizes,
        settings: &Settings,
    ) -> Result<String> {
        let options = Options::from_settings(settings)?;
        let [rows, inner, cols, per_row] = sizes.lengths(NAME)?;
        let or_rows = |length: usize| if length == 0 { rows } else { length };
        let (inner, cols) = (or_rows(inner), or_rows(cols));
        let (nnz_a, nnz_b) = (rows.saturating_mul(per_row), inner.saturating_mul(per_row));
        let problem = Problem { rows, inner, cols, nnz_a, nnz_b, dots: false };
        match device {
            Device::Cpu(_) => cpu::explain(&problem, &options),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => super::cuda::explain(cuda, &problem, &options),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(_) => Ok(super::wgpu::explain(&problem, &options)),
        }
    }
}

/// A piece of code for any type of values.
trait WithValue {
    type Output;
    fn call<T: Value>(self) -> Result<Self::Output>;
}

/// The type of values that a call runs in.
struct Types {
    values: DType,
}

impl Types {
    /// That of A's values. Truth values and counts are made of any.
    fn of(named: &Named<Cpu>, options: &Options) -> Result<Self> {
        let given = named.get("a_val").map(View::dtype);
        let values = match (options.semiring, given) {
            (Semiring::OrAnd, _) => DType::U8,
            (Semiring::PlusPair, _) => DType::U32,
            (_, Some(values)) => values,
            (_, None) => DType::F32,
        };
        Ok(Self { values })
    }

    fn with<W: WithValue>(&self, code: W) -> Result<W::Output> {
        match self.values {
            DType::F32 => code.call::<f32>(),
            DType::F64 => code.call::<f64>(),
            DType::I32 => code.call::<i32>(),
            DType::U32 => code.call::<u32>(),
            DType::U8 => code.call::<u8>(),
            other => Err(Error::Dtype {
                operation: NAME,
                tensor: "a_val".to_owned(),
                expected: "f32, f64, i32, u32 or u8".to_owned(),
                found: other.to_string(),
            }),
        }
    }
}

struct CheckOnly<'a> {
    named: &'a Named<Cpu>,
    settings: &'a Settings,
    options: &'a Options,
}

impl WithValue for CheckOnly<'_> {
    type Output = ();
    fn call<T: Value>(self) -> Result<()> {
        let matrices = read::<T>(self.named, self.settings, self.options)?;
        Problem::check(&matrices.inputs(), self.options).map(|_| ())
    }
}

struct RunOn<'a> {
    device: &'a Device,
    named: &'a Named<Cpu>,
    settings: &'a Settings,
    options: &'a Options,
}

impl WithValue for RunOn<'_> {
    type Output = Ran;
    fn call<T: Value>(self) -> Result<Ran> {
        let matrices = read::<T>(self.named, self.settings, self.options)?;
        let began = Instant::now();
        let (product, summary) = multiply_on(self.device, &matrices.inputs(), self.options)?;
        let elapsed = began.elapsed();
        let [rows, cols] = product.shape();
        let mut outputs = Named::new();
        outputs.insert("c_row_ptr".to_owned(), product.row_ptr().clone().into_view());
        outputs.insert("c_col".to_owned(), product.col().clone().into_view());
        outputs.extend(product.val().map(|val| ("c_val".to_owned(), val.clone().into_view())));
        let shape = ("c_shape".to_owned(), format!("{rows},{cols}"));
        Ok(Ran::new(summary.variant, elapsed, outputs).with_metadata([shape]))
    }
}

/// The product of matrices in the process's memory on a device that is known only at run time.
///
/// # Errors
///
/// As [`multiply`](super::multiply), and [`Error::Unsupported`] where the device has no kernels
/// for it.
pub fn multiply_on<T: Value>(
    device: &Device,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
) -> Result<(Csr<Cpu, T>, Summary)> {
    match device {
        Device::Cpu(_) => multiply_with_summary(inputs, options),
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => multiply_there(cuda, inputs, options),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(wgpu) => multiply_there(wgpu, inputs, options),
    }
}

/// The product of copies on a backend, copied back.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn multiply_there<B: super::Spgemm<T>, T: Value>(
    backend: &B,
    inputs: &Inputs<'_, Cpu, T>,
    options: &Options,
) -> Result<(Csr<Cpu, T>, Summary)> {
    let matrices = inputs.to_backend(backend)?;
    let (product, summary) = multiply_with_summary(&matrices.inputs(), options)?;
    Ok((product.to_backend(&Cpu)?, summary))
}

/// The matrices of a file.
fn read<T: Value>(
    named: &Named<Cpu>,
    settings: &Settings,
    options: &Options,
) -> Result<Matrices<Cpu, T>> {
    check_names(named)?;
    let [a_shape, b_shape] = [shape(settings, SHAPES[0])?, shape(settings, SHAPES[1])?];
    let shape_c = [a_shape[0], b_shape[1]];
    // What is counted are places; values of any type are passed over.
    let counted = options.semiring == Semiring::PlusPair;
    let optional = |name: &str| {
        let there = named.contains_key(&format!("{name}_row_ptr"));
        there.then(|| matrix(named, name, shape_c, counted)).transpose()
    };
    Ok(Matrices {
        a: matrix(named, "a", a_shape, counted)?,
        b: matrix(named, "b", b_shape, counted)?,
        c0: optional("c0")?,
        mask: optional("mask")?,
    })
}

fn check_names(named: &Named<Cpu>) -> Result<()> {
    let parts = |matrix: &str| {
        let parts: &[&str] = if matrix == "mask" { &["row_ptr", "col"] } else { &PARTS };
        parts.iter().map(|part| format!("{matrix}_{part}")).collect::<Vec<_>>()
    };
    let known: Vec<String> = MATRICES.iter().flat_map(|(matrix, _)| parts(matrix)).collect();
    let reader = Reader::new(CHECK, named);
    reader.knows(&known)?;
    for (matrix, required) in MATRICES {
        if required || parts(matrix).iter().any(|name| named.contains_key(name)) {
            reader.required(&format!("{matrix}_row_ptr"))?;
            reader.required(&format!("{matrix}_col"))?;
        }
    }
    Ok(())
}

const PARTS: [&str; 3] = ["row_ptr", "col", "val"];

/// Reads `rows,cols`.
fn shape(settings: &Settings, key: &str) -> Result<[usize; 2]> {
    let text =
        settings.options.get(key).ok_or_else(|| CHECK.wrong_option(key, "rows,cols", "none"))?;
    let sides = text
        .split_once(',')
        .and_then(|(rows, cols)| Some([rows.trim().parse().ok()?, cols.trim().parse().ok()?]));
    sides.ok_or_else(|| CHECK.wrong_option(key, "rows,cols", text))
}

fn matrix<T: Value>(
    named: &Named<Cpu>,
    name: &str,
    shape: [usize; 2],
    counted: bool,
) -> Result<Csr<Cpu, T>> {
    let row_ptr = places(named, &format!("{name}_row_ptr"))?;
    let col = places(named, &format!("{name}_col"))?;
    let named_error = |error| match error {
        Error::Sparse { fault, .. } => {
            Error::Sparse { operation: NAME, matrix: name.to_owned(), fault }
        }
        other => other,
    };
    let made = match named.get(&format!("{name}_val")) {
        Some(val) if !counted => {
            Csr::new(shape, row_ptr, col, values::<T>(&format!("{name}_val"), val)?)
        }
        _ => Csr::pattern(shape, row_ptr, col),
    };
    made.map_err(named_error)
}

/// Row pointers or columns as u32; what does not fit is larger than any that is allowed.
fn places(named: &Named<Cpu>, name: &str) -> Result<Vec<u32>> {
    let Some(view) = named.get(name) else { return Ok(Vec::new()) };
    CHECK.shape(name, view, &[("length", view.elements())])?;
    CHECK.dtype(name, view, &INDICES)?;
    let fit = |place: i64| u32::try_from(place).unwrap_or(u32::MAX);
    Ok(view.to_i64()?.into_iter().map(fit).collect())
}

const INDICES: [DType; 4] = [DType::I32, DType::I64, DType::U32, DType::U64];

/// Values as they are; truth values are made of any.
fn values<T: Value>(name: &str, view: &View<Cpu>) -> Result<Vec<T>> {
    if T::DTYPE == DType::U8 {
        let numbers = view.to_f64()?;
        return Ok(numbers.into_iter().map(|x| T::from_f64(f64::from(x != 0.0))).collect());
    }
    CHECK.dtype(name, view, &[T::DTYPE])?;
    view.typed::<T>()?.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    /// The square of [[2]], whose factors have values of these types.
    fn square(a: View<Cpu>, b: View<Cpu>, semiring: &str) -> Result<Ran> {
        let mut named = Named::new();
        for (name, val) in [("a", a), ("b", b)] {
            let place = |places: &[u32]| Tensor::from_slice(&Cpu, places, &[places.len()]);
            named.insert(format!("{name}_row_ptr"), place(&[0, 1])?.into_view());
            named.insert(format!("{name}_col"), place(&[0])?.into_view());
            named.insert(format!("{name}_val"), val);
        }
        let options = [("a_shape", "1,1"), ("b_shape", "1,1"), ("semiring", semiring)];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let settings = Settings { options: options.into(), ..Settings::default() };
        RunTime.check(&named, &settings)?;
        RunTime.run(&Device::Cpu(Cpu), &named, &settings)
    }

    #[test]
    fn values_of_other_types_are_counted_but_not_multiplied() {
        let float = || Tensor::from_slice(&Cpu, &[2.0f32], &[1]).unwrap().into_view();
        let whole = || Tensor::from_slice(&Cpu, &[2u32], &[1]).unwrap().into_view();
        let value = |ran: Result<Ran>| ran.unwrap().outputs["c_val"].to_f64().unwrap();
        assert_eq!(value(square(float(), float(), "plus-times")), [4.0]);
        assert_eq!(value(square(whole(), whole(), "plus-times")), [4.0]);
        assert_eq!(value(square(float(), whole(), "plus-pair")), [1.0]);
        assert_eq!(value(square(float(), whole(), "or-and")), [1.0]);
        let error = square(whole(), float(), "plus-times").unwrap_err().to_string();
        assert_eq!(error, "spgemm: tensor `b_val`: expected elements u32, found f32");
    }
}
