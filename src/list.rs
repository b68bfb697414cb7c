//! What there is: operation × backend × element type × pass × variant, from the tables.

use crate::backend::kernel;
use crate::backend::{Language, VariantInfo};
use crate::element::DType;
use crate::ring::{self, Algorithm, Pass};
use crate::{
    attention, causal_conv1d, cross_entropy, group_sparse, rnn, scan_attention, selective_scan,
    spgemm,
};

/// A variant of a kernel, as `warpwright list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Listed {
    /// The operation, as the command names it; `common` for kernels that several share.
    pub operation: String,
    /// What it computes.
    pub pass: String,
    /// `cpu`, `wgpu` or `cuda`.
    pub backend: &'static str,
    /// The element types of the activations, where the variant is made for some.
    pub elements: String,
    /// The layout of the activations, where the variant is made for one.
    pub layout: String,
    /// The variant's name.
    pub variant: String,
    /// What it is written in.
    pub language: String,
}

/// A variant of the CPU backend.
pub(crate) struct CpuVariant {
    pub operation: &'static str,
    pub pass: &'static str,
    pub elements: &'static [DType],
    pub layout: &'static str,
    pub name: &'static str,
}

/// The CPU variants of every operation.
const CPU_VARIANTS: [&[CpuVariant]; 10] = [
    &selective_scan::CPU_VARIANTS,
    &selective_scan::state_update::CPU_VARIANTS,
    &causal_conv1d::CPU_VARIANTS,
    &causal_conv1d::update::CPU_VARIANTS,
    &scan_attention::CPU_VARIANTS,
    &rnn::CPU_VARIANTS,
    &attention::CPU_VARIANTS,
    &cross_entropy::CPU_VARIANTS,
    &spgemm::CPU_VARIANTS,
    &group_sparse::CPU_VARIANTS,
];

/// Every variant of every backend of this build.
pub fn list() -> Vec<Listed> {
    let cpu = CPU_VARIANTS.into_iter().flatten().map(|variant| Listed {
        operation: variant.operation.to_owned(),
        pass: variant.pass.to_owned(),
        backend: "cpu",
        elements: variant.elements.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(" "),
        layout: variant.layout.to_owned(),
        variant: variant.name.to_owned(),
        language: "Rust".to_owned(),
    });
    cpu.chain(of_rings()).chain(kernel::all().map(listed)).collect()
}

/// The schedules of rings, which make attention's kernels do their work on every backend.
fn of_rings() -> impl Iterator<Item = Listed> {
    let mut backends = vec![("cpu", "f32 bf16 f16 f64")];
    backends.extend(cfg!(feature = "wgpu").then_some(("wgpu", "f32 bf16 f16")));
    backends.extend(cfg!(feature = "cuda").then_some(("cuda", "f32 bf16 f16")));
    let passes = [Pass::Forward, Pass::Backward];
    let ways = passes.into_iter().flat_map(|pass| Algorithm::ALL.map(|way| (pass, way)));
    let of_backend = move |(backend, elements): (&'static str, &str)| {
        let elements = elements.to_owned();
        ways.clone().map(move |(pass, way)| Listed {
            operation: ring::NAME.to_owned(),
            pass: pass.name().to_owned(),
            backend,
            elements: elements.clone(),
            layout: String::new(),
            variant: way.name().to_owned(),
            language: "attention's".to_owned(),
        })
    };
    backends.into_iter().flat_map(of_backend)
}

/// The type of elements, or all of those that a launch may name; of a product, which is named by its
/// meaning and its values, the latter.
fn elements(info: &VariantInfo) -> String {
    let kind = info.parameter("kind").and_then(|kind| kind.rsplit('_').next());
    let named = info.parameter("element").or_else(|| info.parameter("elements"));
    named.or(kind).unwrap_or("").to_owned()
}

fn listed(info: &VariantInfo) -> Listed {
    let parameter = |name| info.parameter(name).unwrap_or("").to_owned();
    Listed {
        operation: info.operation.replace('_', "-"),
        pass: info.pass.to_owned(),
        backend: match info.language {
            Language::Ptx(_) => "cuda",
            Language::Wgsl => "wgpu",
        },
        elements: elements(info),
        layout: parameter("layout").to_uppercase(),
        variant: info.name.to_owned(),
        language: info.language.to_string(),
    }
}
