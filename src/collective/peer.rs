//! Ranks that are threads of one process, each on a GPU of its own.

use std::sync::Arc;

use super::carrier::Carrier;
use super::lines::without_gaps;
use super::{Lane, Lines, Local};
use crate::Result;
use crate::backend::cuda::{Cuda, Event, Stream};
use crate::tensor::View;

/// A rank on a GPU of its own. Messages are copied from device to device, by a stream of each lane,
/// while both compute; events order the copies, and the host waits for nothing but for the other
/// rank's thread to tell where its memory is. Copies go directly where a device reaches the other's
/// memory, else the driver takes them through the host's.
///
/// ```no_run
/// use warpwright::backend::cuda::Cuda;
/// use warpwright::collective::{Communicator, CudaPeer};
///
/// let devices = (0..Cuda::devices()?.len()).map(Cuda::new).collect::<Result<Vec<_>, _>>()?;
/// let ranks = CudaPeer::run_on(&devices, |ranks, device| Ok((ranks.rank(), device.clone())))?;
/// # drop(ranks);
/// # Ok::<(), warpwright::Error>(())
/// ```
pub type CudaPeer = Local<Cuda, PeerCopies>;

/// The lanes that have a stream of their own; others share them.
const LANES: usize = 2;

/// Copies between devices, by streams of their own.
#[derive(Debug)]
pub struct PeerCopies {
    device: Cuda,
    lanes: [Stream; LANES],
    /// The lanes of all ranks, any of which may have copies of this rank's memory under way.
    all: Vec<Stream>,
}

impl CudaPeer {
    /// A rank on each of these devices, each to be moved to a thread of its own. One device may have
    /// several.
    ///
    /// # Errors
    ///
    /// A device's refusal.
    pub fn group_on(devices: &[Cuda]) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for device in devices {
            for peer in devices {
                device.reach(peer)?;
            }
            for _ in 0..LANES {
                all.push(device.new_stream()?);
            }
        }
        let carriers = devices.iter().zip(all.chunks_exact(LANES)).map(|(device, lanes)| {
            let lanes = [lanes[0].clone(), lanes[1].clone()];
            PeerCopies { device: device.clone(), lanes, all: all.clone() }
        });
        Ok(Self::carried(carriers.collect()))
    }

    /// Runs a rank on each of these devices, in a thread, and gives what they gave.
    ///
    /// # Errors
    ///
    /// As [`group_on`](Self::group_on).
    pub fn run_on<R: Send>(
        devices: &[Cuda],
        rank: impl Fn(Self, &Cuda) -> Result<R> + Sync,
    ) -> Result<Vec<Result<R>>> {
        let group = Self::group_on(devices)?;
        Ok(Self::run_all(group, |own| {
            let device = own.carrier().device.clone();
            rank(own, &device)
        }))
    }
}

impl Carrier<Cuda> for PeerCopies {
    type Mark = Arc<Event>;

    fn pack(&self, part: &View<Cuda>) -> Result<View<Cuda>> {
        without_gaps(part)
    }

    fn room(&self, part: &View<Cuda>) -> Result<View<Cuda>> {
        match part.is_contiguous() {
            true => Ok(part.clone()),
            false => View::new(&self.device, part.dtype(), part.shape()),
        }
    }

    fn unpack(&self, room: &View<Cuda>, part: &View<Cuda>) -> Result<()> {
        match part.is_contiguous() {
            true => Ok(()),
            false => self.device.copy_lines(room, part),
        }
    }

    fn mark(&self) -> Result<Arc<Event>> {
        self.device.stream().record().map(Arc::new)
    }

    fn carry<'a>(
        &self,
        lane: Lane,
        parts: impl Iterator<Item = (&'a View<Cuda>, &'a View<Cuda>)>,
        after: [&Arc<Event>; 2],
    ) -> Result<Arc<Event>> {
        let stream = &self.lanes[usize::from(lane.0) % LANES];
        after.into_iter().try_for_each(|mark| stream.wait_for(mark))?;
        for (from, to) in parts {
            stream.copy_from_peer(from, to)?;
        }
        stream.record().map(Arc::new)
    }

    fn after(&self, mark: &Arc<Event>) -> Result<()> {
        self.device.stream().wait_for(mark)
    }

    fn settle(&self) -> Result<()> {
        self.all.iter().try_for_each(Stream::synchronise)
    }
}
