//! The checks that every operation makes before anything is launched.

use std::str::FromStr;

use crate::backend::Backend;
use crate::element::DType;
use crate::tensor::View;
use crate::{Error, Result};

/// The checks of one operation; every error names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    pub operation: &'static str,
}

impl Check {
    /// The tensor has these axes, each given with its name.
    pub fn shape<B: Backend>(
        self,
        tensor: &str,
        view: &View<B>,
        axes: &[(&str, usize)],
    ) -> Result<()> {
        if view.shape().iter().eq(axes.iter().map(|(_, length)| length)) {
            return Ok(());
        }
        let join = |parts: Vec<String>| format!("({})", parts.join(", "));
        let names = join(axes.iter().map(|(name, _)| (*name).to_owned()).collect());
        let lengths = join(axes.iter().map(|(_, length)| length.to_string()).collect());
        Err(self.wrong_shape(tensor, view, format!("shape {names} = {lengths}")))
    }

    /// The tensor's shape, or strides, are not the expected ones.
    pub fn wrong_shape<B: Backend>(self, tensor: &str, view: &View<B>, expected: String) -> Error {
        Error::Shape {
            operation: self.operation,
            tensor: tensor.to_owned(),
            expected,
            found: format!("shape {}", view.shape()),
        }
    }

    /// The tensor is missing, unknown or one too many.
    pub fn wrong_tensor(self, tensor: &str, expected: impl Into<String>, found: &str) -> Error {
        Error::Tensor {
            operation: self.operation,
            tensor: tensor.to_owned(),
            expected: expected.into(),
            found: found.to_owned(),
        }
    }

    /// The option is not what it can be.
    pub fn wrong_option(self, option: &str, expected: &str, found: &str) -> Error {
        Error::Option {
            operation: self.operation,
            option: option.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    /// The number that an option's text says.
    pub fn number<N: FromStr>(self, option: &str, text: &str) -> Result<N> {
        text.trim().parse().map_err(|_| self.wrong_option(option, "a number", text))
    }

    /// The truth value that an option's text says.
    pub fn truth(self, option: &str, text: &str) -> Result<bool> {
        text.trim().parse().map_err(|_| self.wrong_option(option, "true or false", text))
    }

    /// The two numbers, the least and the largest, that an option's text says.
    pub fn bounds(self, option: &str, text: &str) -> Result<(f32, f32)> {
        let bounds = text
            .split_once(',')
            .and_then(|(min, max)| Some((min.trim().parse().ok()?, max.trim().parse().ok()?)));
        bounds.ok_or_else(|| self.wrong_option(option, "min,max as two numbers", text))
    }

    /// The tensor's last axis has stride 1.
    pub fn fastest_last<B: Backend>(self, tensor: &str, view: &View<B>) -> Result<()> {
        match (view.shape().last(), view.strides().last()) {
            (Some(&length), Some(&stride)) if length > 1 && stride != 1 => Err(Error::Shape {
                operation: self.operation,
                tensor: tensor.to_owned(),
                expected: "stride 1 along the last axis".to_owned(),
                found: format!("strides {:?} for shape {}", view.strides(), view.shape()),
            }),
            _ => Ok(()),
        }
    }

    /// The tensor's memory does not begin at a multiple of its elements' size.
    pub fn misaligned(self, tensor: &str, dtype: DType, address: usize) -> Error {
        Error::Shape {
            operation: self.operation,
            tensor: tensor.to_owned(),
            expected: format!("memory aligned to {} bytes", dtype.bytes()),
            found: format!("address {address:#x}"),
        }
    }

    /// The tensor's elements lie without gaps.
    pub fn contiguous<B: Backend>(self, tensor: &str, view: &View<B>) -> Result<()> {
        if view.is_contiguous() {
            return Ok(());
        }
        Err(Error::Shape {
            operation: self.operation,
            tensor: tensor.to_owned(),
            expected: format!("strides {:?}", view.shape().contiguous_strides()),
            found: format!("strides {:?} for shape {}", view.strides(), view.shape()),
        })
    }

    /// No two elements of a tensor share memory.
    fn apart<B: Backend>(self, tensor: &str, view: &View<B>) -> Result<()> {
        let mut axes: Vec<(usize, usize)> = view
            .strides()
            .iter()
            .copied()
            .zip(view.shape().iter().copied())
            .filter(|(_, length)| *length > 1)
            .collect();
        axes.sort_unstable();
        // Each stride steps over all that the smaller ones reach.
        let mut reached = 0usize;
        for (stride, length) in axes {
            if stride <= reached && view.elements() > 0 {
                return Err(Error::Shape {
                    operation: self.operation,
                    tensor: tensor.to_owned(),
                    expected: "elements that do not share memory".to_owned(),
                    found: format!("strides {:?} for shape {}", view.strides(), view.shape()),
                });
            }
            reached = reached.saturating_add(stride.saturating_mul(length - 1));
        }
        Ok(())
    }

    /// The tensor's elements are of one of these types.
    pub fn dtype<B: Backend>(self, tensor: &str, view: &View<B>, allowed: &[DType]) -> Result<()> {
        if allowed.contains(&view.dtype()) {
            return Ok(());
        }
        let mut names: Vec<&str> = allowed.iter().map(|dtype| dtype.name()).collect();
        names.dedup();
        Err(Error::Dtype {
            operation: self.operation,
            tensor: tensor.to_owned(),
            expected: names.join(" or "),
            found: view.dtype().to_string(),
        })
    }

    /// All tensors lie on one device.
    pub fn same_device<'a, B: Backend>(
        self,
        device: &B,
        tensors: impl IntoIterator<Item = (&'a str, &'a View<B>)>,
    ) -> Result<()> {
        for (tensor, view) in tensors {
            if view.backend() != device {
                return Err(Error::Tensor {
                    operation: self.operation,
                    tensor: tensor.to_owned(),
                    expected: format!("memory of {}", device.name()),
                    found: format!("memory of {}", view.backend().name()),
                });
            }
        }
        Ok(())
    }

    /// No written tensor shares memory with another one of the call, or one of its elements with
    /// another one.
    pub fn disjoint<B: Backend>(
        self,
        written: &[(&str, &View<B>)],
        read: &[(&str, &View<B>)],
    ) -> Result<()> {
        for (i, (name, view)) in written.iter().enumerate() {
            self.apart(name, view)?;
            let others = written[i + 1..].iter().chain(read);
            if let Some((other, _)) = others.into_iter().find(|(_, other)| view.overlaps(other)) {
                return Err(Error::Aliased {
                    operation: self.operation,
                    written: (*name).to_owned(),
                    other: (*other).to_owned(),
                });
            }
        }
        Ok(())
    }
}
