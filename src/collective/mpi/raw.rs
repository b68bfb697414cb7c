//! The few calls of MPI that are needed, each with its status looked at.
//!
//! The safe face of `mpi` drops the statuses that `MPI_ERRORS_RETURN` makes calls return, so its raw
//! one is used here, and nowhere else.

use std::ffi::{c_int, c_void};
use std::mem::{self, MaybeUninit};

use mpi::ffi;

use crate::collective::Fault;

/// Most bytes of one transfer: MPI counts in 31 bits.
pub const MOST_BYTES: usize = 1 << 30;

/// All processes of a job.
#[derive(Debug)]
pub struct World {
    pub rank: usize,
    pub size: usize,
}

impl World {
    /// Of a process in which MPI was initialised.
    pub fn new() -> Result<Self, Fault> {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: MPI is initialised; the pointers are those of two numbers.
        unsafe {
            checked("MPI_Comm_set_errhandler", || {
                ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN)
            })?;
            checked("MPI_Comm_rank", || ffi::MPI_Comm_rank(ffi::RSMPI_COMM_WORLD, &mut rank))?;
            checked("MPI_Comm_size", || ffi::MPI_Comm_size(ffi::RSMPI_COMM_WORLD, &mut size))?;
        }
        Ok(Self { rank: rank as usize, size: size as usize })
    }

    /// Starts sending at most [`MOST_BYTES`].
    pub fn send(&self, peer: usize, tag: c_int, bytes: Vec<u8>) -> Result<Request, Fault> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the bytes stay where they are until the request has ended, for it owns them; MPI
        // writes the request where it succeeds.
        let raw = unsafe {
            checked("MPI_Isend", || {
                ffi::MPI_Isend(
                    bytes.as_ptr().cast::<c_void>(),
                    bytes.len() as c_int,
                    ffi::RSMPI_UINT8_T,
                    peer as c_int,
                    tag,
                    ffi::RSMPI_COMM_WORLD,
                    raw.as_mut_ptr(),
                )
            })?;
            raw.assume_init()
        };
        Ok(Request { raw, bytes, length: None, source: peer, ended: false })
    }

    /// Starts receiving exactly so many bytes of a peer, at most [`MOST_BYTES`].
    pub fn receive(&self, peer: usize, tag: c_int, length: usize) -> Result<Request, Fault> {
        self.receive_from(peer as c_int, tag, vec![0; length], Some(length))
    }

    /// Starts receiving up to so many bytes of anybody.
    pub fn receive_any(&self, tag: c_int, most: usize) -> Result<Request, Fault> {
        // SAFETY: a constant of MPI.
        let anybody = unsafe { ffi::RSMPI_ANY_SOURCE };
        self.receive_from(anybody, tag, vec![0; most], None)
    }

    fn receive_from(
        &self,
        source: c_int,
        tag: c_int,
        mut bytes: Vec<u8>,
        length: Option<usize>,
    ) -> Result<Request, Fault> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: as in `send`; nobody else looks at the bytes before the request has ended.
        let raw = unsafe {
            checked("MPI_Irecv", || {
                ffi::MPI_Irecv(
                    bytes.as_mut_ptr().cast::<c_void>(),
                    bytes.len() as c_int,
                    ffi::RSMPI_UINT8_T,
                    source,
                    tag,
                    ffi::RSMPI_COMM_WORLD,
                    raw.as_mut_ptr(),
                )
            })?;
            raw.assume_init()
        };
        Ok(Request { raw, bytes, length, source: source.max(0) as usize, ended: false })
    }

    /// Ends all processes of the job.
    pub fn end(&self, status: u8) {
        // SAFETY: MPI is initialised. Whatever it returns, it has done what it could.
        unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, c_int::from(status)) };
    }
}

/// Something that is being sent or received, and its bytes.
#[derive(Debug)]
pub struct Request {
    raw: ffi::MPI_Request,
    bytes: Vec<u8>,
    /// How many bytes must come.
    length: Option<usize>,
    source: usize,
    ended: bool,
}

impl Request {
    /// Whether it has ended.
    pub fn test(&mut self) -> Result<bool, Fault> {
        if self.ended {
            return Ok(true);
        }
        let (mut flag, mut status) = (0, MaybeUninit::<ffi::MPI_Status>::zeroed());
        // SAFETY: the request has not ended yet; flag and status are of this call.
        let (status, count) = unsafe {
            checked("MPI_Test", || ffi::MPI_Test(&mut self.raw, &mut flag, status.as_mut_ptr()))?;
            let (status, mut count) = (status.assume_init(), 0);
            if flag != 0 && self.is_of_anybody() {
                checked("MPI_Get_count", || {
                    ffi::MPI_Get_count(&status, ffi::RSMPI_UINT8_T, &mut count)
                })?;
            }
            (status, count as usize)
        };
        if flag == 0 {
            return Ok(false);
        }
        self.ended = true;
        if self.is_of_anybody() {
            self.bytes.truncate(count);
            self.source = status.MPI_SOURCE.max(0) as usize;
        }
        Ok(true)
    }

    fn is_of_anybody(&self) -> bool {
        self.length.is_none()
    }

    /// Who has sent it.
    pub fn source(&self) -> usize {
        self.source
    }

    /// What has come. Before it has ended that is not known.
    pub fn bytes(&self) -> &[u8] {
        if self.ended { &self.bytes } else { &[] }
    }

    /// Takes back a receive that nobody has answered.
    pub fn cancel(mut self) {
        if self.ended {
            return;
        }
        // SAFETY: the request has not ended yet; a receive that is cancelled ends by itself.
        unsafe {
            ffi::MPI_Cancel(&mut self.raw);
            ffi::MPI_Wait(&mut self.raw, ffi::RSMPI_STATUS_IGNORE);
        }
        self.ended = true;
    }
}

/// MPI may still read or write the bytes of what has not ended: they are never freed then.
impl Drop for Request {
    fn drop(&mut self) {
        if !self.ended {
            mem::forget(mem::take(&mut self.bytes));
        }
    }
}

/// Makes a call of MPI, whose status is an error unless it is that of success.
fn checked(call: &'static str, make: impl FnOnce() -> c_int) -> Result<(), Fault> {
    match make() {
        0 => Ok(()),
        status => Err(Fault::Transport { call, reason: reason(status) }),
    }
}

/// What MPI says of a status.
fn reason(status: c_int) -> String {
    let mut text = [0; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut length = 0;
    // SAFETY: the text has the length that MPI asks for.
    let told = unsafe { ffi::MPI_Error_string(status, text.as_mut_ptr(), &mut length) };
    match told {
        0 => {
            let text = text.iter().take(length as usize).map(|&byte| byte as u8);
            String::from_utf8_lossy(&text.collect::<Vec<u8>>()).into_owned()
        }
        _ => format!("status {status}"),
    }
}
