//! `warpwright run`: one operation on tensors from a file.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use warpwright::Device;
use warpwright::operation::{self, Settings};

use crate::failure::Failure;
use crate::file::{self, Case};
use crate::target::Target;

/// Run one operation on the tensors of a safetensors file and write its results to another.
///
/// The tensors carry the names of the operation's documentation. Options are strings in the
/// file's metadata; `--set` overrides them. Example:
///
///   warpwright run selective-scan --input in.safetensors --output out.safetensors \
///       --device cpu --set delta_softplus=true
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The operation, as `warpwright list` names it
    operation: String,
    /// The file with the inputs
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The file to write; it appears whole or not at all
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Where to run: auto, cpu, wgpu, wgpu:INDEX, cuda, cuda:INDEX, ptx or reference
    #[arg(long, default_value = "auto")]
    device: Target,
    /// An option, in place of the file's; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The kernel variant to use instead of the planned one
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let operation = operation::find(&arguments.operation)?;
    let given = options(&arguments.set)?;
    let Case { tensors, metadata } = file::read(&arguments.input)?;
    if let Some(op) = metadata.get("op").filter(|op| **op != operation.name()) {
        return Err(Failure::input(format!(
            "{}: the file is for the operation {op}, not for {}",
            arguments.input.display(),
            operation.name()
        )));
    }
    let is_option =
        |(key, _): &(String, String)| !(key.contains('.') || *key == "op" || *key == "format");
    let mut options: BTreeMap<String, String> = metadata.into_iter().filter(is_option).collect();
    options.extend(given);
    let settings = Settings { options, variant: arguments.variant.clone() };
    operation.check(&tensors, &settings)?;
    let (name, ran) = match arguments.device {
        Target::Reference => ("reference".to_owned(), operation.reference(&tensors, &settings)?),
        Target::Device(name) => {
            let device = Device::open(name)?;
            (device.name(), operation.run(&device, &tensors, &settings)?)
        }
    };
    let mut metadata: HashMap<String, String> = ran.metadata.into_iter().collect();
    metadata.extend([
        ("op".to_owned(), operation.name().to_owned()),
        ("device".to_owned(), name),
        ("variant".to_owned(), ran.variant.to_owned()),
        ("elapsed_us".to_owned(), ran.elapsed.as_micros().to_string()),
    ]);
    file::write(&arguments.output, &ran.outputs, metadata)
}

/// The pairs of `--set`.
pub fn options(pairs: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    pairs
        .iter()
        .map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Failure::input(format!("--set: expected KEY=VALUE, found {pair}"))
            })?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}
