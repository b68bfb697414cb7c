//! Case files: tensors and options in the safetensors format.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use warpwright::group_sparse::file::{dtype, stored};
use warpwright::{Cpu, Named, View};

use crate::failure::Failure;

/// A case file, read.
#[derive(Debug)]
pub struct Case {
    /// The tensors, under their names.
    pub tensors: Named<Cpu>,
    /// The metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Case, Failure> {
    let wrong = |reason: String| Failure::input(format!("{}: {reason}", path.display()));
    let bytes = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes)
        .map_err(|error| wrong(format!("not a whole safetensors file: {error}")))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| wrong(format!("not a whole safetensors file: {error}")))?;
    let mut tensors = Named::new();
    for (name, tensor) in file.iter() {
        let dtype = dtype(tensor.dtype()).ok_or_else(|| {
            wrong(format!(
                "tensor `{name}`: expected elements F32, F16, BF16, F64, I32, I64, U32, U64, U16, U8 or \
                 BOOL, found {:?}",
                tensor.dtype()
            ))
        })?;
        let view = View::from_bytes(&Cpu, dtype, tensor.data(), tensor.shape())?;
        tensors.insert(name.to_owned(), view);
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(Case { tensors, metadata })
}

/// Writes a file.
pub fn write(
    path: &Path,
    tensors: &Named<Cpu>,
    metadata: HashMap<String, String>,
) -> Result<(), Failure> {
    let wrong = |reason: String| Failure::run(format!("{}: {reason}", path.display()));
    let mut data = Vec::with_capacity(tensors.len());
    for (name, view) in tensors {
        data.push((name, stored(view.dtype()), view.shape().to_vec(), view.to_bytes()?));
    }
    let views = data
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (*name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| wrong(error.to_string()))?;
    write_whole(path, |file| file.write_all(&bytes))
}

/// Writes a file under a temporary name beside its place, then renames it, so that a file of this
/// name is always whole.
pub fn write_whole<E: ToString>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), Failure> {
    let temporary = temporary_name(path)?;
    let written = || -> Result<(), String> {
        let said = |error: io::Error| error.to_string();
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&temporary).map_err(said)?);
        write(&mut file).map_err(|error| error.to_string())?;
        file.flush().and_then(|()| fs::rename(&temporary, path)).map_err(said)
    };
    written().map_err(|reason| {
        // Nothing is left behind; that the temporary file may not exist is no second failure.
        let _ = fs::remove_file(&temporary);
        Failure::run(format!("{}: {reason}", path.display()))
    })
}

/// The name under which a file is written before it has its own.
fn temporary_name(path: &Path) -> Result<PathBuf, Failure> {
    let name = path.file_name().ok_or_else(|| {
        Failure::input(format!("{}: expected the name of a file to write", path.display()))
    })?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}
