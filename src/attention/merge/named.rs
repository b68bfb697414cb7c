//! Merges of two results whose names and types are known only at run time, as files give them.

use std::time::Instant;

use super::check::{CHECK, Sizes};
use super::{AXES, NAME, Parts, merge};
use crate::Result;
use crate::attention::{Attention, Layout, MAX_WIDTH};
use crate::backend::{Cpu, Device, Named, dispatch};
use crate::element::{DType, Float};
use crate::named::{Reader, downloaded};
use crate::operation::{Axis, Operation, Ran, Settings, Sizes as Lengths};
use crate::parameter::Parameter;
use crate::tensor::View;
use crate::variant::no_such_variant;

/// The tensors that a merge knows, in the order of messages.
const TENSORS: [&str; 4] = ["out1", "lse1", "out2", "lse2"];

/// The merge as an [`Operation`].
pub(crate) struct RunTime;

impl Operation for RunTime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn axes(&self) -> &'static [Axis] {
        &AXES
    }

    fn check(&self, named: &Named<Cpu>, settings: &Settings) -> Result<()> {
        let layout = layout(settings)?;
        dispatch!(NAME, &Device::Cpu(Cpu), dtype(named)?, |_cpu, T| {
            side_by_side::<T>(named, layout).map(drop)
        })
    }

    fn run(&self, device: &Device, named: &Named<Cpu>, settings: &Settings) -> Result<Ran> {
        dispatch!(NAME, device, dtype(named)?, |backend, T| run_on::<_, T>(
            backend, named, settings
        ))
    }

    fn plan(
        &self,
        device: &Device,
        dtype: DType,
        sizes: &Lengths,
        settings: &Settings,
    ) -> Result<String> {
        layout(settings)?;
        let [batch, heads, queries, width, parts] = sizes.lengths(NAME)?;
        if !(1..=MAX_WIDTH).contains(&width) {
            let expected = format!("1 to {MAX_WIDTH} features, Dv");
            return Err(CHECK.wrong_option("shape", &expected, &width.to_string()));
        }
        dispatch!(NAME, device, dtype, |backend, T| {
            let variant = variant::<_, T>(backend, settings)?;
            let rows = batch * heads * queries;
            Ok(format!(
                "variant    {variant}\nrows       {rows} of {width} features in {parts} parts\n\
                 because    there is one kernel, which merges the parts of a row in their order"
            ))
        })
    }
}

/// The kernel of a backend, which may be asked for by its name.
fn variant<B: Attention<T>, T: Float>(backend: &B, settings: &Settings) -> Result<&'static str> {
    let variant = backend.merge_variant()?;
    match settings.variant.as_ref().filter(|asked| *asked != variant) {
        Some(asked) => Err(no_such_variant(NAME, backend.name(), asked, [variant])),
        None => Ok(variant),
    }
}

fn layout(settings: &Settings) -> Result<Layout> {
    let mut layout = Layout::default();
    for (key, value) in &settings.options {
        match key.as_str() {
            "layout" => layout = Layout::from_text(CHECK, value)?,
            _ => return Err(CHECK.wrong_option(key, "layout alone", "an unknown option")),
        }
    }
    Ok(layout)
}

/// The two results and their lse, each as parts in one tensor.
fn side_by_side<T: Float>(named: &Named<Cpu>, layout: Layout) -> Result<[View<Cpu>; 2]> {
    let reader = Reader::new(CHECK, named);
    reader.knows(&TENSORS)?;
    let first = Parts::<Cpu, T>::new(reader.typed::<T>("out1")?, reader.typed("lse1")?);
    Sizes::of(&first, ["out1", "lse1"], false, layout)?;
    Ok([joined(&reader, ["out1", "out2"])?, joined(&reader, ["lse1", "lse2"])?])
}

/// Two tensors as one, with an axis of both before the others.
fn joined(reader: &Reader<'_, Cpu>, [first, second]: [&str; 2]) -> Result<View<Cpu>> {
    let (one, other) = (reader.required(first)?, reader.required(second)?);
    CHECK.dtype(second, other, &[one.dtype()])?;
    if one.shape() != other.shape() {
        let expected = format!("shape {}, as {first} has", one.shape());
        return Err(CHECK.wrong_shape(second, other, expected));
    }
    let shape = [&[2], &**one.shape()].concat();
    View::from_bytes(&Cpu, one.dtype(), &[one.to_bytes()?, other.to_bytes()?].concat(), &shape)
}

fn run_on<B: Attention<T>, T: Float>(
    backend: &B,
    named: &Named<Cpu>,
    settings: &Settings,
) -> Result<Ran> {
    let (layout, variant) = (layout(settings)?, variant::<B, T>(backend, settings)?);
    let [out, lse] = side_by_side::<T>(named, layout)?;
    let (out, lse) = (out.to_backend(backend)?, lse.to_backend(backend)?);
    let parts = Parts::<B, T> { out: Parameter::from_view(&out)?, lse: lse.as_typed()? };
    // The first call loads the kernel.
    merge(&parts, layout)?;
    backend.synchronise()?;
    let start = Instant::now();
    let merged = merge(&parts, layout)?;
    backend.synchronise()?;
    let elapsed = start.elapsed();
    let outputs = downloaded([("out", &*merged.out), ("lse", &*merged.lse)])?;
    Ok(Ran::new(variant, elapsed, outputs))
}

/// The element type that the merge runs in.
fn dtype(named: &Named<Cpu>) -> Result<DType> {
    Ok(Reader::new(CHECK, named).required("out1")?.dtype())
}
