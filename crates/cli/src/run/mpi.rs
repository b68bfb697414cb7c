//! A ring whose ranks are processes that `mpirun` has started. Rank 0 reads, checks and writes; the
//! others are sent their shards. All end with one status, and one of them says why.

use std::time::Duration;

use warpwright::collective::{Communicator, DEADLINE, Fault, Mpi};
use warpwright::operation;
use warpwright::ring::{check_over, run_over};
use warpwright::{DeviceName, Error};

use super::{Arguments, Call, options, write};
use crate::failure::Failure;
use crate::target::Target;

/// How long ranks wait for files to be read and written.
const FILES: Duration = Duration::from_secs(600);

/// What rank 0 says first: that all go on, or that all end with the status behind it.
const GO: u8 = 1;
const END: u8 = 0;

/// Runs the call, which rank 0 reads where it has not been read yet. After a fault between ranks it
/// does not return: the job is ended, for ranks that are gone or stopped would be waited for.
pub fn run(arguments: &Arguments, call: Option<Call>) -> Result<(), Failure> {
    let ranks = Mpi::world()?;
    ranks.set_deadline(Some(FILES));
    match over(&ranks, arguments, call) {
        Ok(done) => done,
        Err(error) => {
            let failure = Failure::from(error.clone());
            if tells(ranks.rank(), &error) {
                failure.report();
            }
            ranks.end(failure.status())
        }
    }
}

/// Whether a rank is the one that prints an error: the first, or the second where it is the first
/// that is missing.
fn tells(rank: usize, error: &Error) -> bool {
    let is_of_first = matches!(
        error,
        Error::Communication {
            fault: Fault::PeerTimeout { peer: 0, .. } | Fault::PeerFailed { peer: 0, .. },
            ..
        }
    );
    rank == usize::from(is_of_first)
}

/// What comes of it, on every rank; the outer error is one between ranks. Rank 0 prints what is
/// wrong before the others know of it: `mpirun` ends all when one has ended with a status.
fn over(
    ranks: &Mpi,
    arguments: &Arguments,
    call: Option<Call>,
) -> Result<Result<(), Failure>, Error> {
    let begun = (ranks.rank() == 0).then(|| first(ranks.size(), arguments, call));
    let (own, told) = match begun {
        Some(Err(failure)) => (None, [END, printed(&failure)]),
        Some(Ok(Some(call))) => (Some(call), [GO, 0]),
        Some(Ok(None)) | None => (None, [END, 0]),
    };
    let said = ranks.gather_bytes(&told)?;
    if let [END, status] = said[0][..] {
        return Ok(ended(status));
    }
    let whole = own.as_ref().map(|call| (&call.tensors, &call.settings));
    ranks.set_deadline(Some(DEADLINE));
    let ran = run_over(ranks, whole)?;
    ranks.set_deadline(Some(FILES));
    let written = ran.map(|ran| {
        let operation = operation::find(&arguments.operation)?;
        write(arguments, operation, "cpu", ran)
    });
    let status = match written {
        Some(Err(failure)) => printed(&failure),
        _ => 0,
    };
    let said = ranks.gather_bytes(&[status])?;
    Ok(ended(said[0].first().copied().unwrap_or(0)))
}

/// Prints a failure, and gives its status.
fn printed(failure: &Failure) -> u8 {
    failure.report();
    failure.status()
}

/// How every rank ends, after the first has printed why.
fn ended(status: u8) -> Result<(), Failure> {
    if status == 0 { Ok(()) } else { Err(Failure::untold(status)) }
}

/// What rank 0 does before the others are asked for anything: nothing is left for them where the
/// reference is wanted.
fn first(ranks: usize, arguments: &Arguments, call: Option<Call>) -> Result<Option<Call>, Failure> {
    let operation = operation::find(&arguments.operation)?;
    let call = match call {
        Some(call) => call,
        None => Call::read(arguments, operation, options(&arguments.set)?)?,
    };
    operation.check(&call.tensors, &call.settings)?;
    match arguments.device {
        Target::Reference => {
            let (name, ran) = call.reference(operation)?;
            write(arguments, operation, &name, ran).map(|()| None)
        }
        Target::Device(DeviceName::Auto | DeviceName::Cpu) => {
            check_over(&call.tensors, &call.settings, ranks)?;
            Ok(Some(call))
        }
        Target::Device(name) => Err(Failure::from(Error::Unsupported {
            operation: operation.name(),
            backend: "the engine mpi".to_owned(),
            what: format!("the device {name}"),
            instead: "use the device cpu, or the engine local".to_owned(),
        })),
    }
}
