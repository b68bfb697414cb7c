//! Reading a file: the header at once, tensors when they are asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::Metadata;

use super::{CHUNK, Entry, dtype, wrong};
use crate::backend::{Cpu, Named};
use crate::group_sparse::check::CHECK;
use crate::group_sparse::layer::{Header, Layer, bias_name, headers};
use crate::tensor::View;
use crate::{Error, Result};

/// The longest header that is read.
const LONGEST_HEADER: u64 = 100_000_000;

/// A file that is open for reading.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    /// The first byte behind the header.
    data: u64,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    headers: BTreeMap<String, Header>,
}

impl Reader {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where it cannot be read or is not whole, and what
    /// [`headers`](crate::group_sparse::layer::headers) refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let io = |error: std::io::Error| wrong(path, error);
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let (data, header) = read_header(&mut file, length)
            .map_err(|reason| wrong(path, format!("not a whole safetensors file: {reason}")))?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let entry = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
            let (begin, end) = info.data_offsets;
            let range = begin as u64..end as u64;
            (name, Entry { dtype: info.dtype, shape: info.shape.clone(), range })
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            data,
            entries: header.tensors().into_iter().map(entry).collect(),
            headers: headers(&metadata)?,
            metadata,
        })
    }

    /// What the file says besides its tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// All tensors, under their names.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// What the file says of its compressed layers, under their names.
    pub fn headers(&self) -> &BTreeMap<String, Header> {
        &self.headers
    }

    /// Whether a tensor is part of the matrix of a compressed layer.
    pub fn is_compressed(&self, tensor: &str) -> bool {
        let layer = tensor.rsplit_once(".gqsa.").map(|(layer, _)| layer);
        layer.is_some_and(|layer| self.headers.contains_key(layer))
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            let found = format!("none in {}", self.path.display());
            CHECK.wrong_tensor(name, "this tensor", &found)
        })
    }

    /// A tensor.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] where there is none of this name, [`Error::Dtype`] where this crate has no
    /// such elements, [`Error::Io`] where it cannot be read.
    pub fn tensor(&mut self, name: &str) -> Result<View<Cpu>> {
        let Entry { dtype: stored, shape, range } = self.entry(name)?.clone();
        let dtype = dtype(stored).ok_or_else(|| Error::Dtype {
            operation: CHECK.operation,
            tensor: name.to_owned(),
            expected: "floats, or integers of 8 bits or more without a sign".to_owned(),
            found: stored.to_string(),
        })?;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.read(name, range.start, &mut bytes)?;
        View::from_bytes(&Cpu, dtype, &bytes, &shape)
    }

    /// Reads bytes of a tensor.
    fn read(&mut self, name: &str, begin: u64, bytes: &mut [u8]) -> Result<()> {
        let place = SeekFrom::Start(self.data + begin);
        let read = self.file.seek(place).and_then(|_| self.file.read_exact(bytes));
        read.map_err(|error| wrong(&self.path, format!("tensor `{name}`: {error}")))
    }

    /// The bytes of a tensor of any type, piece by piece.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] where there is none of this name; the pieces are errors where the file
    /// cannot be read.
    pub fn pieces<'a>(
        &'a mut self,
        name: &'a str,
    ) -> Result<impl Iterator<Item = Result<Vec<u8>>> + 'a> {
        let range = self.entry(name)?.range.clone();
        Ok(range.clone().step_by(CHUNK).map(move |begin| {
            let mut bytes = vec![0; (range.end - begin).min(CHUNK as u64) as usize];
            self.read(name, begin, &mut bytes)?;
            Ok(bytes)
        }))
    }

    /// A compressed layer, checked.
    ///
    /// # Errors
    ///
    /// [`Error::Option`] where there is none of this name, and as [`tensor`](Self::tensor) and
    /// [`Layer::from_named`].
    pub fn layer(&mut self, name: &str) -> Result<Layer> {
        let Some(header) = self.headers.get(name).cloned() else {
            let names: Vec<&str> = self.headers.keys().map(String::as_str).collect();
            return Err(CHECK.wrong_option("layer", &names.join(" or "), name));
        };
        let mut names = vec![bias_name(name)];
        let prefix = format!("{name}.gqsa.");
        let behind = self.entries.range(prefix.clone()..).map(|(tensor, _)| tensor.clone());
        names.extend(behind.take_while(|tensor| tensor.starts_with(&prefix)));
        names.retain(|tensor| self.entries.contains_key(tensor));
        let mut named = Named::new();
        for tensor in names {
            let view = self.tensor(&tensor)?;
            named.insert(tensor, view);
        }
        Layer::from_named(name, &header, &named)
    }

    /// All compressed layers, in the order of their names, each read when it is its turn.
    pub fn layers(&mut self) -> impl Iterator<Item = Result<Layer>> + '_ {
        let names: Vec<String> = self.headers.keys().cloned().collect();
        names.into_iter().map(|name| self.layer(&name))
    }
}

/// The first byte behind the header, and what the header says, of a file of this length.
fn read_header(file: &mut File, length: u64) -> Result<(u64, Metadata), String> {
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).map_err(|_| format!("expected 8 bytes, found {length}"))?;
    let bytes = u64::from_le_bytes(prefix);
    if bytes > LONGEST_HEADER || bytes > length - 8 {
        return Err(format!("expected a header of {bytes} bytes, found {} bytes", length - 8));
    }
    let mut text = vec![0; bytes as usize];
    file.read_exact(&mut text).map_err(|error| error.to_string())?;
    let header: Metadata = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let (expected, found) = (header.data_len() as u64, length - 8 - bytes);
    match expected == found {
        true => Ok((8 + bytes, header)),
        false => Err(format!("expected {expected} bytes of tensors, found {found}")),
    }
}
