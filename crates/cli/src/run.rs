//! `warpwright run`: one operation on tensors from a file.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use warpwright::operation::{self, Operation, Ran, Settings};
use warpwright::{Cpu, Device, Named};

use crate::failure::Failure;
use crate::file::{self, Case};
use crate::target::Target;

#[cfg(feature = "mpi")]
mod mpi;

/// Run one operation on the tensors of a safetensors file and write its results to another.
///
/// The tensors carry the names of the operation's documentation. Options are strings in the
/// file's metadata; `--set` overrides them. Example:
///
///   warpwright run selective-scan --input in.safetensors --output out.safetensors \
///       --device cpu --set delta_softplus=true
///
/// ring-attention, ring for short, cuts whole sequences among `--set ranks=N` threads that share
/// the device, by the schedule and partition that `warpwright plan ring` explains, and tells the
/// bytes that each rank has sent. Where the command was built with the feature mpi, ranks are
/// processes: rank 0 reads and writes the files.
///
///   mpirun -n 4 warpwright run ring --input in.safetensors --output out.safetensors \
///       --set engine=mpi
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
    // Ranks must know before any of them reads the file.
    #[cfg(feature = "mpi")]
    if is_over_mpi(operation, &given) {
        return mpi::run(arguments, None);
    }
    let call = Call::read(arguments, operation, given)?;
    #[cfg(feature = "mpi")]
    if is_over_mpi(operation, &call.settings.options) {
        return mpi::run(arguments, Some(call));
    }
    operation.check(&call.tensors, &call.settings)?;
    let (device, ran) = match arguments.device {
        Target::Reference => call.reference(operation)?,
        Target::Device(name) => {
            let device = Device::open(name)?;
            (device.name(), operation.run(&device, &call.tensors, &call.settings)?)
        }
    };
    write(arguments, operation, &device, ran)
}

/// Whether processes of MPI are asked for.
#[cfg(feature = "mpi")]
fn is_over_mpi(operation: &dyn Operation, options: &BTreeMap<String, String>) -> bool {
    let engine = options.get("engine").map(String::as_str);
    operation.name() == warpwright::ring::NAME && engine == Some("mpi")
}

/// The tensors and options of a call.
struct Call {
    tensors: Named<Cpu>,
    settings: Settings,
}

impl Call {
    /// Those of the file, with the options of the command line in place of the file's.
    fn read(
        arguments: &Arguments,
        operation: &dyn Operation,
        given: BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let Case { tensors, metadata } = file::read(&arguments.input)?;
        if let Some(op) = metadata.get("op").filter(|op| **op != operation.name()) {
            return Err(Failure::input(format!(
                "{}: the file is for the operation {op}, not for {}",
                arguments.input.display(),
                operation.name()
            )));
        }
        let (metadata, mut options): (BTreeMap<_, _>, BTreeMap<_, _>) =
            metadata.into_iter().partition(|(key, _)| key.contains('.'));
        options.retain(|key, _| key != "op" && key != "format");
        options.extend(given);
        let settings = Settings { options, variant: arguments.variant.clone(), metadata };
        Ok(Self { tensors, settings })
    }

    /// The name of the reference, and what it gives.
    fn reference(&self, operation: &dyn Operation) -> Result<(String, Ran), Failure> {
        Ok(("reference".to_owned(), operation.reference(&self.tensors, &self.settings)?))
    }
}

/// Writes what has come of a call.
fn write(
    arguments: &Arguments,
    operation: &dyn Operation,
    device: &str,
    ran: Ran,
) -> Result<(), Failure> {
    let mut metadata: HashMap<String, String> = ran.metadata.into_iter().collect();
    metadata.extend([
        ("op".to_owned(), operation.name().to_owned()),
        ("device".to_owned(), device.to_owned()),
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
