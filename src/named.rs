//! Tensors of the wanted kinds among those that carry names, as files give them.

use std::borrow::Borrow;

use crate::backend::{Backend, Cpu, Named};
use crate::check::Check;
use crate::element::{DType, Element, Float};
use crate::parameter::{Indices, Parameter};
use crate::tensor::{Tensor, View};
use crate::{Error, Result};

/// Reads the tensors of an operation; every error names it.
#[derive(Debug)]
pub(crate) struct Reader<'a, B: Backend> {
    check: Check,
    named: &'a Named<B>,
}

impl<'a, B: Backend> Reader<'a, B> {
    pub fn new(check: Check, named: &'a Named<B>) -> Self {
        Self { check, named }
    }

    /// Only these tensors are there: a typo never passes silently.
    pub fn knows<S: Borrow<str>>(&self, tensors: &[S]) -> Result<()> {
        let known = |name: &str| tensors.iter().any(|tensor| tensor.borrow() == name);
        match self.named.keys().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => {
                let expected = format!("one of {}", tensors.join(" "));
                Err(self.check.wrong_tensor(name, expected, "an unknown tensor"))
            }
        }
    }

    /// A tensor that must be there.
    pub fn required(&self, name: &str) -> Result<&'a View<B>> {
        self.named.get(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        self.check.wrong_tensor(name, "this tensor", "none")
    }

    /// A tensor of this type.
    pub fn typed<T: Element>(&self, name: &str) -> Result<&'a Tensor<B, T>> {
        self.optional_typed(name)?.ok_or_else(|| self.missing(name))
    }

    /// The same where it is there.
    pub fn optional_typed<T: Element>(&self, name: &str) -> Result<Option<&'a Tensor<B, T>>> {
        let Some(view) = self.named.get(name) else { return Ok(None) };
        self.check.dtype(name, view, &[T::DTYPE])?;
        view.as_typed().map(Some)
    }

    /// A tensor in f32, or in the type that the operation runs in.
    pub fn parameter<T: Float>(&self, name: &str) -> Result<Parameter<'a, B>> {
        self.optional_parameter::<T>(name)?.ok_or_else(|| self.missing(name))
    }

    /// The same where it is there.
    pub fn optional_parameter<T: Float>(&self, name: &str) -> Result<Option<Parameter<'a, B>>> {
        let Some(view) = self.named.get(name) else { return Ok(None) };
        self.check.dtype(name, view, &[T::State::DTYPE, T::DTYPE])?;
        Parameter::from_view(view).map(Some)
    }

    /// A tensor of integers, where it is there.
    pub fn indices(&self, name: &str) -> Result<Option<Indices<'a, B>>> {
        let Some(view) = self.named.get(name) else { return Ok(None) };
        self.check.dtype(name, view, &[DType::I32, DType::I64, DType::U32, DType::U64])?;
        Indices::from_view(view).map(Some)
    }
}

/// What is named, brought to the CPU.
pub(crate) fn downloaded<'a, B: Backend>(
    named: impl IntoIterator<Item = (&'static str, &'a View<B>)>,
) -> Result<Named<Cpu>> {
    let download = |(name, view): (&'static str, &View<B>)| -> Result<(String, View<Cpu>)> {
        Ok((name.to_owned(), view.to_backend(&Cpu)?))
    };
    named.into_iter().map(download).collect()
}
