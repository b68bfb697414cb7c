//! Writing a file: tensors go to a file of their own beside its place, then, in the order of their
//! names and behind the header, to the file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::{CHUNK, Entry, Reader, stored, wrong};
use crate::Result;
use crate::backend::Cpu;
use crate::group_sparse::check::CHECK;
use crate::group_sparse::layer::{Header, Layer, metadata};
use crate::tensor::View;

/// What the header calls the metadata, so that no tensor is called so.
const METADATA: &str = "__metadata__";

/// A file that is being written. It appears when it is [finished](Self::finish); where it is not,
/// nothing is left behind.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    /// The tensors, in the order in which they come.
    data: BufWriter<File>,
    /// Their file goes with the writer.
    _temporary: Temporary,
    /// Where the tensors lie in it.
    entries: BTreeMap<String, Entry>,
    end: u64,
    metadata: BTreeMap<String, String>,
    headers: BTreeMap<String, Header>,
}

impl Writer {
    /// Begins a file of this name; one that is there is replaced in the end.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) where nothing can be written there.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let temporary = Temporary::beside(path, "data")?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&temporary.0).map_err(|error| wrong(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            data: BufWriter::with_capacity(CHUNK, file),
            _temporary: temporary,
            entries: BTreeMap::new(),
            end: 0,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
        })
    }

    /// Says something in the metadata; what is said of layers is put there with them.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.metadata.insert(key.into(), value.into());
    }

    /// Writes a tensor.
    ///
    /// # Errors
    ///
    /// As [`pieces`](Self::pieces).
    pub fn tensor(&mut self, name: &str, tensor: &View<Cpu>) -> Result<()> {
        let bytes = tensor.to_bytes();
        self.pieces(name, stored(tensor.dtype()), tensor.shape(), [bytes])
    }

    /// Copies a tensor of any type from another file.
    ///
    /// # Errors
    ///
    /// As [`pieces`](Self::pieces), and the reader's.
    pub fn copy(&mut self, reader: &mut Reader, name: &str) -> Result<()> {
        let entry = reader.entries().get(name).cloned();
        let pieces = reader.pieces(name)?;
        match entry {
            Some(entry) => self.pieces(name, entry.dtype, &entry.shape, pieces),
            None => Ok(()),
        }
    }

    /// Writes a compressed layer: its tensors, and what the metadata say of it.
    ///
    /// # Errors
    ///
    /// As [`pieces`](Self::pieces).
    pub fn layer(&mut self, layer: &Layer) -> Result<()> {
        for (name, tensor) in &layer.to_named()? {
            self.tensor(name, tensor)?;
        }
        self.headers.insert(layer.name.clone(), layer.header());
        Ok(())
    }

    /// Says what there is to say of a layer whose tensors are copied.
    pub fn describe(&mut self, name: impl Into<String>, header: Header) {
        self.headers.insert(name.into(), header);
    }

    /// Writes a tensor whose bytes come piece by piece.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`](crate::Error::Tensor) where there is one of this name already,
    /// [`Error::Shape`](crate::Error::Shape) where the pieces are not as long as the shape,
    /// [`Error::Io`](crate::Error::Io), and the errors among the pieces.
    pub fn pieces(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        pieces: impl IntoIterator<Item = Result<Vec<u8>>>,
    ) -> Result<()> {
        if name == METADATA || self.entries.contains_key(name) {
            return Err(CHECK.wrong_tensor(name, "a name of its own", "one that is taken"));
        }
        let begin = self.end;
        for piece in pieces {
            let piece = piece?;
            self.data.write_all(&piece).map_err(|error| wrong(&self.path, error))?;
            self.end += piece.len() as u64;
        }
        let (range, shape) = (begin..self.end, shape.to_vec());
        let entry = Entry { dtype, shape, range };
        let bits = entry.shape.iter().map(|&length| length as u128).product::<u128>()
            * dtype.bitsize() as u128;
        if bits != 8 * u128::from(entry.bytes()) {
            return Err(crate::Error::Shape {
                operation: CHECK.operation,
                tensor: name.to_owned(),
                expected: format!("{} bytes for shape {:?} of {dtype}", bits / 8, entry.shape),
                found: entry.bytes().to_string(),
            });
        }
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) where it cannot be written.
    pub fn finish(mut self) -> Result<()> {
        if !self.headers.is_empty() {
            let headers = self.headers.iter().map(|(name, header)| (name.as_str(), header));
            self.metadata.extend(metadata(headers));
        }
        let whole = Temporary::beside(&self.path, "whole")?;
        self.assemble(&whole.0)
            .and_then(|()| fs::rename(&whole.0, &self.path))
            .map_err(|error| wrong(&self.path, error))
    }

    /// Writes the header, and the tensors in the order of their names.
    fn assemble(&mut self, path: &Path) -> io::Result<()> {
        let mut to = BufWriter::with_capacity(CHUNK, File::create(path)?);
        to.write_all(&self.header())?;
        self.data.flush()?;
        let from = self.data.get_mut();
        for entry in self.entries.values() {
            from.seek(SeekFrom::Start(entry.range.start))?;
            io::copy(&mut from.take(entry.bytes()), &mut to)?;
        }
        to.flush()
    }

    /// The length of the header and its text, with spaces up to a multiple of 8 bytes.
    fn header(&self) -> Vec<u8> {
        let mut begin = 0;
        let mut header = Map::new();
        for (name, entry) in &self.entries {
            let end = begin + entry.bytes();
            let (dtype, shape) = (entry.dtype.to_string(), &entry.shape);
            let described = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]});
            header.insert(name.clone(), described);
            begin = end;
        }
        if !self.metadata.is_empty() {
            header.insert(METADATA.to_owned(), json!(self.metadata));
        }
        let mut header = Value::Object(header);
        header.sort_all_objects();
        let mut text = header.to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        [&(text.len() as u64).to_le_bytes(), text.as_slice()].concat()
    }
}

/// A file that is removed when nobody needs it any more.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Temporary {
    /// A name beside a file.
    fn beside(path: &Path, what: &str) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(wrong(path, "expected the name of a file to write"));
        };
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.{what}.tmp", std::process::id()));
        Ok(Self(path.with_file_name(temporary)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Where it has been renamed, or never was, there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}
