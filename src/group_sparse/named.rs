//! Products with layers whose tensors and types are known only at run time, as files give them.

use std::collections::BTreeMap;
use std::time::Instant;

use super::check::CHECK;
use super::format::{Format, Mode, Pattern, ScaleScope};
use super::layer::{self, Header, Layer, bias_name, headers};
use super::{AXES, GroupSparse, NAME, Options, Problem, Scheme, Weights};
use crate::Result;
use crate::backend::{Cpu, Device, Named, dispatch, in_f64};
use crate::element::{DType, Element, Float};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes};
use crate::tensor::{Tensor, View};

/// The vectors, among the tensors of layers.
const X: &str = "x";

/// Options, of which `layer` is one of files alone.
const KEYS: [&str; 3] = ["layer", "scheme", "workers"];

/// The most workers of a call; each has room of its own.
const MOST_WORKERS: usize = 65535;

/// The product as an [`Operation`].
pub(crate) struct RunTime;

impl Operation for RunTime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn axes(&self) -> &'static [Axis] {
        &AXES
    }

    fn check(&self, named: &Named<Cpu>, settings: &Settings) -> Result<()> {
        Call::read(named, settings).map(|_| ())
    }

    fn run(&self, device: &Device, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        let call = Call::read(named, settings)?;
        dispatch!(NAME, device, call.x.dtype(), |backend, T| call.run::<_, T>(backend))
    }

    /// In f64 are x and the bias; the arrays of a layer keep the types that they must have.
    fn reference(&self, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        let is_input = |name: &str| name == X || name.ends_with(".bias");
        let (inputs, mut all): (Named<Cpu>, Named<Cpu>) =
            named.clone().into_iter().partition(|(name, _)| is_input(name));
        all.extend(in_f64(&inputs)?);
        self.run(&Device::Cpu(Cpu), &all, settings)
    }

    fn plan(
        &self,
        device: &Device,
        dtype: DType,
        sizes: &Sizes,
        settings: &Settings,
    ) -> Result<String> {
        let options = options(settings)?;
        let problem = problem(sizes)?;
        dispatch!(NAME, device, dtype, |backend, T| {
            let plan = backend.plan(&problem, &options)?;
            Ok(format!("{plan}\nelements   {}", T::DTYPE))
        })
    }
}

/// A matrix of these sizes with as many groups in every row, about.
fn problem(sizes: &Sizes) -> Result<Problem> {
    let [vectors, rows, columns, pruned, group, bits] = sizes.lengths(NAME)?;
    if pruned > 100 {
        return Err(CHECK.wrong_option("S", "a percentage, 0 to 100", &pruned.to_string()));
    }
    let pattern = if pruned == 0 { Pattern::Dense } else { Pattern::Free };
    let (mode, scope) = (Mode::Sym, ScaleScope::Group);
    let bits = u32::try_from(bits).unwrap_or(u32::MAX);
    let format = Format { rows, columns, group, bits, mode, pattern, scope };
    // Before groups are counted, of which none may be 0 columns long.
    format.check()?;
    let all = rows as u128 * format.column_groups() as u128;
    let kept = all - all * pruned as u128 / 100;
    if kept >= u128::from(u32::MAX) {
        let expected = "fewer than 4294967295 kept groups";
        return Err(CHECK.wrong_option("shape", expected, &kept.to_string()));
    }
    Problem::even(format, kept as usize, vectors)
}

/// The options of a product.
fn options(settings: &Settings) -> Result<Options> {
    let mut options = Options { variant: settings.variant.clone(), ..Options::default() };
    for (key, value) in &settings.options {
        match key.as_str() {
            "layer" => {}
            "scheme" => {
                let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.name() == value);
                let names = Scheme::ALL.map(Scheme::name).join(" or ");
                options.scheme =
                    Some(scheme.ok_or_else(|| CHECK.wrong_option(key, &names, value))?);
            }
            "workers" => {
                let workers = CHECK.number::<usize>(key, value)?;
                if !(1..=MOST_WORKERS).contains(&workers) {
                    let expected = format!("1 to {MOST_WORKERS}");
                    return Err(CHECK.wrong_option(key, &expected, value));
                }
                options.workers = Some(workers);
            }
            _ => {
                let expected = format!("one of {}", KEYS.join(" "));
                return Err(CHECK.wrong_option(key, &expected, "an unknown option"));
            }
        }
    }
    Ok(options)
}

/// A product of a layer of a file.
struct Call {
    layer: Layer,
    /// (M, K) or (K).
    x: View<Cpu>,
    options: Options,
}

impl Call {
    fn read(named: &Named<Cpu>, settings: &Settings) -> Result<Self> {
        let options = options(settings)?;
        let headers = headers(&settings.metadata)?;
        let (name, header) = chosen(&headers, settings.options.get("layer"))?;
        knows(named, &headers)?;
        let x = named.get(X).ok_or_else(|| CHECK.wrong_tensor(X, "this tensor", "none"))?.clone();
        let columns = header.format.columns;
        match x.shape().first() {
            Some(_) if x.shape().len() == 1 => CHECK.shape(X, &x, &[("K", columns)])?,
            vectors => {
                let vectors = vectors.copied().unwrap_or(1);
                CHECK.shape(X, &x, &[("M", vectors), ("K", columns)])?;
            }
        }
        CHECK.dtype(X, &x, &[DType::F32, DType::F16, DType::BF16, DType::F64])?;
        let layer = Layer::from_named(name, header, named)?;
        if let Some(bias) = layer.bias.as_ref().filter(|bias| bias.dtype() == DType::F64) {
            // Only the reference takes it.
            CHECK.dtype(
                &bias_name(name),
                bias,
                &[DType::F32, DType::F16, DType::BF16, x.dtype()],
            )?;
        }
        Ok(Self { layer, x, options })
    }

    /// Uploads, plans, runs, downloads.
    fn run<B: GroupSparse, T: Float>(&self, backend: &B) -> Result<Ran> {
        let weights = Weights::new(backend, &self.layer.matrix)?;
        let x = self.x.to_backend(backend)?;
        let bias = self.layer.bias.as_ref().map(|bias| bias.to_backend(backend)).transpose()?;
        let mut shape = x.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.layer.matrix.format().rows;
        }
        let y = Tensor::<B, T>::new(backend, &shape)?;
        let as_rows = |view: &View<B>| match view.shape().len() {
            1 => view.unsqueezed(0),
            _ => Ok(view.clone()),
        };
        let (rows_of_x, rows_of_y) = (as_rows(&x)?, as_rows(&y)?);
        let mut product = weights.product(rows_of_x.shape()[0], &self.options)?;
        backend.synchronise()?;
        let start = Instant::now();
        product.run(&rows_of_x, bias.as_ref(), &rows_of_y)?;
        backend.synchronise()?;
        let elapsed = start.elapsed();
        let outputs = [("y".to_owned(), y.to_backend(&Cpu)?)].into();
        Ok(Ran::new(product.plan().variant, elapsed, outputs))
    }
}

/// The layer that is asked for, or the only one.
fn chosen<'a>(
    headers: &'a BTreeMap<String, Header>,
    asked: Option<&String>,
) -> Result<(&'a str, &'a Header)> {
    let found = match asked {
        Some(asked) => headers.get_key_value(asked),
        None if headers.len() == 1 => headers.first_key_value(),
        None => None,
    };
    found.map(|(name, header)| (name.as_str(), header)).ok_or_else(|| {
        let names: Vec<&str> = headers.keys().map(String::as_str).collect();
        let expected = match names.as_slice() {
            [] => "a file with a layer in its metadata gqsa.layers".to_owned(),
            names => names.join(" or "),
        };
        CHECK.wrong_option("layer", &expected, asked.map_or("none", String::as_str))
    })
}

/// All tensors are x, or belong to a layer that the metadata describe.
fn knows(named: &Named<Cpu>, headers: &BTreeMap<String, Header>) -> Result<()> {
    let of_layer = |name: &str, layer: &str| {
        let rest = name.strip_prefix(layer).unwrap_or_default();
        rest == ".bias" || rest.starts_with(".gqsa.")
    };
    let known = |name: &str| name == X || headers.keys().any(|layer| of_layer(name, layer));
    if let Some(name) = named.keys().find(|name| !known(name)) {
        let expected = "x, or a tensor of a layer in gqsa.layers";
        return Err(CHECK.wrong_tensor(name, expected, "an unknown tensor"));
    }
    headers.keys().try_for_each(|layer| layer::knows(layer, named))
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::group_sparse::layer::{metadata, random};
    use crate::group_sparse::reference;

    /// A file of two layers, and x for the first.
    fn case(vectors: &[usize]) -> (Named<Cpu>, Settings, Layer) {
        let mut rng = Rng::with_seed(3);
        let layers = ["a", "b"].map(|name| {
            let mut layer = Layer::new(name, random::matrix(&mut rng), DType::F16);
            let bias = vec![0.25f32; layer.matrix.format().rows];
            layer.bias = Some(Tensor::from_slice(&Cpu, &bias, &[bias.len()]).unwrap().into_view());
            layer
        });
        let mut named = Named::new();
        layers.iter().for_each(|layer| named.extend(layer.to_named().unwrap()));
        let shape = [vectors, &[layers[0].matrix.format().columns]].concat();
        let x = (0..shape.iter().product()).map(|_| rng.f32() - 0.5).collect();
        named.insert("x".to_owned(), Tensor::from_vec(x, &shape).unwrap().into_view());
        let headers = layers.each_ref().map(|layer| (layer.name.as_str(), layer.header()));
        let settings = Settings {
            options: [("layer".to_owned(), "a".to_owned())].into(),
            metadata: metadata(headers.iter().map(|(name, header)| (*name, header))).into(),
            ..Settings::default()
        };
        let [first, _] = layers;
        (named, settings, first)
    }

    #[test]
    fn one_vector_or_many_give_what_the_reference_gives() {
        for vectors in [&[][..], &[1], &[3], &[17], &[0]] {
            let (named, settings, layer) = case(vectors);
            RunTime.check(&named, &settings).unwrap();
            let exact = RunTime.reference(&named, &settings).unwrap();
            let bias = vec![0.25; layer.matrix.format().rows];
            let x = named["x"].to_f64().unwrap();
            let right = reference::forward(&layer.matrix, &x, Some(&bias));
            let shape = [vectors, &[layer.matrix.format().rows]].concat();
            assert_eq!(exact.outputs["y"].shape()[..], shape);
            assert_eq!(exact.outputs["y"].to_f64().unwrap(), right.y);
            let ran = RunTime.run(&Device::Cpu(Cpu), &named, &settings).unwrap();
            assert_eq!(ran.outputs["y"].dtype(), DType::F32);
            let y = ran.outputs["y"].to_f64().unwrap();
            for ((y, right), terms) in y.iter().zip(&right.y).zip(&right.terms) {
                assert!((y - right).abs() <= 1e-6 * terms, "{y} instead of {right}");
            }
        }
    }

    #[test]
    fn options_and_tensors_must_be_known() {
        let (named, settings, _) = case(&[2]);
        let message = |key: &str, value: &str| {
            let mut settings = settings.clone();
            settings.options.insert(key.to_owned(), value.to_owned());
            RunTime.check(&named, &settings).unwrap_err().to_string()
        };
        assert!(message("layer", "c").ends_with("option `layer`: expected a or b, found c"));
        assert!(message("scheme", "even").contains("task-centric or data-centric, found even"));
        assert!(message("workers", "0").contains("expected 1 to 65535, found 0"));
        assert!(message("rows", "1").contains("expected one of layer scheme workers"));
        let without = Settings { options: Default::default(), ..settings.clone() };
        let message = RunTime.check(&named, &without).unwrap_err().to_string();
        assert!(message.ends_with("option `layer`: expected a or b, found none"), "{message}");
        let bare = Settings::default();
        let message = RunTime.check(&named, &bare).unwrap_err().to_string();
        assert!(message.contains("expected a file with a layer"), "{message}");

        let changed = |name: &str, view: Option<View<Cpu>>| {
            let mut named = named.clone();
            match view {
                Some(view) => named.insert(name.to_owned(), view),
                None => named.remove(name),
            };
            RunTime.check(&named, &settings).unwrap_err().to_string()
        };
        let one = || Tensor::from_vec(vec![1f32], &[1]).unwrap().into_view();
        assert!(
            changed("z", Some(one())).contains("tensor `z`: expected x, or a tensor of a layer")
        );
        assert!(changed("b.gqsa.z", Some(one())).contains("`b.gqsa.z`: expected one of row_ptr"));
        assert!(changed("x", None).contains("tensor `x`: expected this tensor, found none"));
        assert!(changed("x", Some(one())).contains("tensor `x`: expected shape (K) = ("));
        let wide = in_f64(&[("a.bias".to_owned(), named["a.bias"].clone())].into()).unwrap();
        let message = changed("a.bias", Some(wide["a.bias"].clone()));
        assert!(message.contains("tensor `a.bias`: expected elements"), "{message}");
    }

    #[test]
    fn plans_are_explained_without_a_matrix() {
        let plan = |shape: &str| {
            let sizes = Sizes::parse(&AXES, shape).unwrap();
            RunTime.plan(&Device::Cpu(Cpu), DType::F32, &sizes, &Settings::default())
        };
        let told = plan("N=4096,K=4096").unwrap();
        assert!(told.contains("variant    group_sparse_cpu") && told.contains("f32"), "{told}");
        assert!(plan("N=64,K=100,S=0,M=4,G=128,b=3").is_ok());
        for (shape, expected) in [
            ("N=64,K=64,G=0", "option `group`: expected 8, 16, 32, 64 or 128, found 0"),
            ("N=64,K=64,b=5", "option `bits`"),
            ("N=64,K=64,S=101", "option `S`: expected a percentage"),
            ("N=0,K=64", "option `n`"),
            ("N=2147483647,K=2147483647", "fewer than 4294967295 kept groups"),
        ] {
            let message = plan(shape).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
