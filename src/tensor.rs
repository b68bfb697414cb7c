//! Typed, shaped views of a device's memory.
//!
//! A [`Tensor`] is not a tensor library: no arithmetic, no broadcasting, no autograd. It exists
//! so that a shape error is caught before a launch, and so that memory which a framework owns
//! passes in and out without a copy. [`View`] is the same with the element type known only at
//! run time; a tensor dereferences to it.
//!
//! ```
//! use warpwright::{Cpu, Tensor};
//!
//! let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])?;
//! assert_eq!(x.to_vec()?, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
//! assert_eq!(x.transposed(0, 1)?.to_vec()?, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
//! let y: Tensor<Cpu, f32> = Tensor::new(&Cpu, &[2, 3])?;
//! assert_eq!(**y.shape(), [2, 3]);
//! # Ok::<(), warpwright::Error>(())
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

use crate::backend::{Backend, Buffer, Cpu, HostBuffer, ReadGuard, WriteGuard};
use crate::element::{DType, Element, Float, Index};
use crate::shape::{Shape, Strides, span};
use crate::{Error, Result};

/// A shaped view of a buffer: element type, shape, strides and offset. Cloning shares the memory.
#[derive(Clone)]
pub struct View<B: Backend> {
    backend: B,
    buffer: B::Buffer,
    dtype: DType,
    shape: Shape,
    strides: Strides,
    /// Of the first element, in bytes.
    offset: u64,
}

impl<B: Backend> View<B> {
    /// A view of elements that lie in `buffer`, the first one at the byte `offset`; `strides`
    /// count elements.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where the shape has more than six axes, the strides have another rank,
    /// the view reaches beyond the buffer, or `offset` is not a multiple of the element's size.
    pub fn from_buffer(
        backend: &B,
        buffer: B::Buffer,
        dtype: DType,
        offset: u64,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Self> {
        let refuse = |expected: String, found: String| Error::Shape {
            operation: "tensor",
            tensor: "view of a buffer".to_owned(),
            expected,
            found,
        };
        let (Some(shape), Some(strides)) = (Shape::new(shape), Strides::new(strides)) else {
            return Err(refuse("at most six axes".to_owned(), format!("shape {shape:?}")));
        };
        if shape.len() != strides.len() {
            return Err(refuse(
                format!("{} strides for shape {shape}", shape.len()),
                format!("{strides:?}"),
            ));
        }
        let size = dtype.bytes() as u64;
        if !offset.is_multiple_of(size) {
            return Err(refuse(
                format!("an offset that is a multiple of {size} bytes"),
                offset.to_string(),
            ));
        }
        let end = span(&shape, &strides)
            .and_then(|elements| (elements as u64).checked_mul(size)?.checked_add(offset));
        if end.is_none_or(|end| end > buffer.bytes()) {
            return Err(refuse(
                format!("a view within the buffer's {} bytes", buffer.bytes()),
                format!("shape {shape}, strides {strides:?}, offset {offset}, elements {dtype}"),
            ));
        }
        Ok(Self { backend: backend.clone(), buffer, dtype, shape, strides, offset })
    }

    /// A new view without gaps; what it holds is not defined.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] for an impossible shape, or the device's refusal to allocate.
    pub fn new(backend: &B, dtype: DType, shape: &[usize]) -> Result<Self> {
        let (shape, bytes) = contiguous(dtype, shape)?;
        let buffer = backend.allocate(bytes)?;
        Self::without_gaps(backend, buffer, dtype, &shape)
    }

    /// A view without gaps from the first byte of a buffer on.
    pub(crate) fn without_gaps(
        backend: &B,
        buffer: B::Buffer,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Self> {
        let (shape, _) = contiguous(dtype, shape)?;
        Self::from_buffer(backend, buffer, dtype, 0, &shape, &shape.contiguous_strides())
    }

    /// A new view that holds a copy of `bytes`, without gaps.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where `bytes` has not the shape's length, or the device's refusal.
    pub fn from_bytes(backend: &B, dtype: DType, bytes: &[u8], shape: &[usize]) -> Result<Self> {
        let (shape, expected) = contiguous(dtype, shape)?;
        check_length(&shape, expected, bytes.len() as u64)?;
        let buffer = backend.upload(bytes)?;
        Self::from_buffer(backend, buffer, dtype, 0, &shape, &shape.contiguous_strides())
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The memory that the view lies in.
    pub fn buffer(&self) -> &B::Buffer {
        &self.buffer
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The distances between neighbours along each axis, in elements.
    pub fn strides(&self) -> &Strides {
        &self.strides
    }

    /// The first element's place in the buffer, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Whether the elements lie without gaps, the last axis fastest. Axes of length 1 may have
    /// any stride.
    pub fn is_contiguous(&self) -> bool {
        let contiguous = self.shape.contiguous_strides();
        self.elements() == 0
            || (0..self.shape.len())
                .all(|axis| self.shape[axis] == 1 || self.strides[axis] == contiguous[axis])
    }

    /// The bytes of the buffer from the first element to the end of the last.
    pub fn byte_range(&self) -> Range<u64> {
        // `from_buffer` has checked that the span exists and fits.
        let elements = span(&self.shape, &self.strides).unwrap_or(0) as u64;
        self.offset..self.offset + elements * self.dtype.bytes() as u64
    }

    /// Whether the two views may share a byte. Views that interleave count as sharing.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.backend == other.backend
            && self.buffer.overlaps(self.byte_range(), &other.buffer, other.byte_range())
    }

    /// The same memory with two axes exchanged.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there is no such axis.
    pub fn transposed(&self, first: usize, second: usize) -> Result<Self> {
        self.check_axis(first.max(second))?;
        let mut shape = self.shape.to_vec();
        shape.swap(first, second);
        let strides = self.strides.swapped(first, second);
        self.with_layout(self.offset, &shape, &strides)
    }

    /// The part of the view with indices in `range` along `axis`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there is no such axis or the range leaves it.
    pub fn narrowed(&self, axis: usize, range: Range<usize>) -> Result<Self> {
        self.check_axis(axis)?;
        if range.start > range.end || range.end > self.shape[axis] {
            return Err(Error::Shape {
                operation: "tensor",
                tensor: "narrowed view".to_owned(),
                expected: format!("a range within axis {axis} of shape {}", self.shape),
                found: format!("{range:?}"),
            });
        }
        let mut shape = self.shape.to_vec();
        shape[axis] = range.len();
        // A view of nothing stays where it is, within the buffer.
        let is_empty = shape.contains(&0);
        let skipped = if is_empty { 0 } else { range.start * self.strides[axis] };
        let offset = self.offset + (skipped * self.dtype.bytes()) as u64;
        self.with_layout(offset, &shape, &self.strides)
    }

    /// The same memory with one more axis, of length 1, before `axis`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there is no such place, or no room for another axis.
    pub fn unsqueezed(&self, axis: usize) -> Result<Self> {
        // A view of rank 4 has places 0 to 4.
        if axis > self.shape.len() {
            self.check_axis(axis)?;
        }
        let (mut shape, mut strides) = (self.shape.to_vec(), self.strides.to_vec());
        // Along an axis of length 1 nobody steps.
        shape.insert(axis, 1);
        strides.insert(axis, 1);
        self.with_layout(self.offset, &shape, &strides)
    }

    fn with_layout(&self, offset: u64, shape: &[usize], strides: &[usize]) -> Result<Self> {
        let buffer = self.buffer.clone();
        Self::from_buffer(&self.backend, buffer, self.dtype, offset, shape, strides)
    }

    fn check_axis(&self, axis: usize) -> Result<()> {
        if axis < self.shape.len() {
            return Ok(());
        }
        Err(Error::Shape {
            operation: "tensor",
            tensor: "view".to_owned(),
            expected: format!("an axis of shape {}", self.shape),
            found: format!("axis {axis}"),
        })
    }

    /// A copy of the elements in order, the last axis fastest. Waits for the device.
    ///
    /// # Errors
    ///
    /// The device's refusal, or an error of the work queued before.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let range = self.byte_range();
        let mut spanned = vec![0; (range.end - range.start) as usize];
        self.backend.download(&self.buffer, range.start, &mut spanned)?;
        if self.is_contiguous() {
            return Ok(spanned);
        }
        let size = self.dtype.bytes();
        let mut bytes = Vec::with_capacity(self.elements() * size);
        for position in positions(&self.shape, &self.strides) {
            bytes.extend_from_slice(&spanned[position * size..][..size]);
        }
        Ok(bytes)
    }

    /// A copy of the elements on another device, without gaps.
    ///
    /// # Errors
    ///
    /// Either device's refusal.
    pub fn to_backend<C: Backend>(&self, backend: &C) -> Result<View<C>> {
        View::from_bytes(backend, self.dtype, &self.to_bytes()?, &self.shape)
    }

    /// The same view with its element type known to the compiler.
    ///
    /// # Errors
    ///
    /// [`Error::Dtype`] where the elements are of another type.
    pub fn typed<T: Element>(&self) -> Result<Tensor<B, T>> {
        self.as_typed().cloned()
    }

    /// The same view, borrowed, with its element type known to the compiler.
    ///
    /// # Errors
    ///
    /// [`Error::Dtype`] where the elements are of another type.
    pub fn as_typed<T: Element>(&self) -> Result<&Tensor<B, T>> {
        if self.dtype != T::DTYPE {
            return Err(Error::Dtype {
                operation: "tensor",
                tensor: "view".to_owned(),
                expected: T::DTYPE.to_string(),
                found: self.dtype.to_string(),
            });
        }
        // SAFETY: `Tensor` is a transparent wrapper of `View`, and the type was just checked.
        Ok(unsafe { &*std::ptr::from_ref(self).cast::<Tensor<B, T>>() })
    }
}

impl View<Cpu> {
    /// The bytes from the first element to the last, for reading.
    pub(crate) fn read(&self) -> Result<ReadGuard<'_>> {
        let range = self.byte_range();
        self.buffer.read(range.start as usize..range.end as usize)
    }

    /// The bytes from the first element to the last, for writing.
    pub(crate) fn write(&self) -> Result<WriteGuard<'_>> {
        let range = self.byte_range();
        self.buffer.write(range.start as usize..range.end as usize)
    }

    /// The elements in order as f64, exactly.
    pub(crate) fn to_f64(&self) -> Result<Vec<f64>> {
        fn widen<T: Float>(bytes: &[u8]) -> Vec<f64> {
            bytes
                .chunks_exact(size_of::<T>())
                .map(|element| bytemuck::pod_read_unaligned::<T>(element).to_f64())
                .collect()
        }
        let bytes = self.to_bytes()?;
        Ok(match self.dtype {
            DType::F16 => widen::<half::f16>(&bytes),
            DType::BF16 => widen::<half::bf16>(&bytes),
            DType::F32 => widen::<f32>(&bytes),
            DType::F64 => widen::<f64>(&bytes),
            DType::U8 | DType::U16 | DType::I32 | DType::U32 | DType::I64 | DType::U64 => {
                self.to_i64()?.into_iter().map(|index| index as f64).collect()
            }
        })
    }

    /// Rounds `values`, in order, into the elements, which are floats.
    pub(crate) fn write_f64(&self, values: &[f64]) -> Result<()> {
        match self.dtype {
            DType::F16 => self.round::<half::f16>(values),
            DType::BF16 => self.round::<half::bf16>(values),
            DType::F32 => self.round::<f32>(values),
            DType::F64 => self.round::<f64>(values),
            DType::U8 | DType::U16 | DType::I32 | DType::U32 | DType::I64 | DType::U64 => {
                Err(Error::Dtype {
                    operation: "tensor",
                    tensor: "view".to_owned(),
                    expected: "of a float type".to_owned(),
                    found: self.dtype.to_string(),
                })
            }
        }
    }

    fn round<T: Float>(&self, values: &[f64]) -> Result<()> {
        let mut bytes = self.write()?;
        let size = size_of::<T>();
        for (position, &value) in positions(&self.shape, &self.strides).zip(values) {
            bytes[position * size..][..size]
                .copy_from_slice(bytemuck::bytes_of(&T::from_f64(value)));
        }
        Ok(())
    }

    /// The elements in order as i64; for integers, and saturated where a u64 does not fit.
    pub(crate) fn to_i64(&self) -> Result<Vec<i64>> {
        fn widen<T: Index>(bytes: &[u8]) -> Vec<i64> {
            bytes
                .chunks_exact(size_of::<T>())
                .map(|element| bytemuck::pod_read_unaligned::<T>(element).to_i64())
                .map(|value| value.unwrap_or(i64::MAX))
                .collect()
        }
        let bytes = self.to_bytes()?;
        match self.dtype {
            DType::U8 => Ok(widen::<u8>(&bytes)),
            DType::U16 => Ok(widen::<u16>(&bytes)),
            DType::I32 => Ok(widen::<i32>(&bytes)),
            DType::U32 => Ok(widen::<u32>(&bytes)),
            DType::I64 => Ok(widen::<i64>(&bytes)),
            DType::U64 => Ok(widen::<u64>(&bytes)),
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Err(Error::Dtype {
                operation: "tensor",
                tensor: "view".to_owned(),
                expected: "of an integer type".to_owned(),
                found: self.dtype.to_string(),
            }),
        }
    }
}

impl<B: Backend> fmt::Debug for View<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} on {}", self.dtype, self.shape, self.backend.name())
    }
}

/// A [`View`] whose element type the compiler knows.
#[derive(Clone)]
#[repr(transparent)]
pub struct Tensor<B: Backend, T: Element> {
    view: View<B>,
    element: PhantomData<T>,
}

impl<B: Backend, T: Element> Tensor<B, T> {
    /// A new tensor without gaps; what it holds is not defined.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] for an impossible shape, or the device's refusal to allocate.
    pub fn new(backend: &B, shape: &[usize]) -> Result<Self> {
        View::new(backend, T::DTYPE, shape)?.typed()
    }

    /// A new tensor that holds a copy of `values`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where `values` has not the shape's length, or the device's refusal.
    pub fn from_slice(backend: &B, values: &[T], shape: &[usize]) -> Result<Self> {
        View::from_bytes(backend, T::DTYPE, bytemuck::cast_slice(values), shape)?.typed()
    }

    /// A tensor whose elements lie in `buffer`; see [`View::from_buffer`].
    ///
    /// # Errors
    ///
    /// As [`View::from_buffer`].
    pub fn from_buffer(
        backend: &B,
        buffer: B::Buffer,
        offset: u64,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Self> {
        View::from_buffer(backend, buffer, T::DTYPE, offset, shape, strides)?.typed()
    }

    /// The same without a type that the compiler knows.
    pub fn into_view(self) -> View<B> {
        self.view
    }

    /// A copy of the elements in order, the last axis fastest. Waits for the device.
    ///
    /// # Errors
    ///
    /// The device's refusal, or an error of the work queued before.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        Ok(bytemuck::pod_collect_to_vec(&self.view.to_bytes()?))
    }

    /// The same memory with two axes exchanged.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there is no such axis.
    pub fn transposed(&self, first: usize, second: usize) -> Result<Self> {
        self.view.transposed(first, second)?.typed()
    }

    /// The part of the tensor with indices in `range` along `axis`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there is no such axis or the range leaves it.
    pub fn narrowed(&self, axis: usize, range: Range<usize>) -> Result<Self> {
        self.view.narrowed(axis, range)?.typed()
    }

    /// The same memory with one more axis, of length 1, before `axis`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where there is no such place, or no room for another axis.
    pub fn unsqueezed(&self, axis: usize) -> Result<Self> {
        self.view.unsqueezed(axis)?.typed()
    }
}

impl<T: Element> Tensor<Cpu, T> {
    /// Takes over a vector, without a copy.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] where `values` has not the shape's length.
    pub fn from_vec(values: Vec<T>, shape: &[usize]) -> Result<Self> {
        let (shape, expected) = contiguous(T::DTYPE, shape)?;
        check_length(&shape, expected, size_of_val(values.as_slice()) as u64)?;
        let strides = shape.contiguous_strides();
        Self::from_buffer(&Cpu, HostBuffer::from_vec(values), 0, &shape, &strides)
    }

    /// The elements in order; without a copy where the tensor owns a vector of just these.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] while another call writes them.
    pub fn into_vec(mut self) -> Result<Vec<T>> {
        if self.view.is_contiguous() && self.view.byte_range() == (0..self.view.buffer.bytes()) {
            match self.view.buffer.into_vec() {
                Ok(values) => return Ok(values),
                Err(buffer) => self.view.buffer = buffer,
            }
        }
        self.to_vec()
    }
}

impl<B: Backend, T: Element> Deref for Tensor<B, T> {
    type Target = View<B>;
    fn deref(&self) -> &View<B> {
        &self.view
    }
}

impl<B: Backend, T: Element> fmt::Debug for Tensor<B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

/// The shape, and the bytes that it takes without gaps.
fn contiguous(dtype: DType, shape: &[usize]) -> Result<(Shape, u64)> {
    let checked = Shape::new(shape).and_then(|shape| {
        let bytes = (shape.elements() as u64).checked_mul(dtype.bytes() as u64)?;
        Some((shape, bytes))
    });
    checked.ok_or_else(|| Error::Shape {
        operation: "tensor",
        tensor: "new".to_owned(),
        expected: "at most six axes and a size that fits in memory".to_owned(),
        found: format!("{shape:?}"),
    })
}

fn check_length(shape: &Shape, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Shape {
        operation: "tensor",
        tensor: "new".to_owned(),
        expected: format!("{expected} bytes for shape {shape}"),
        found: format!("{found} bytes"),
    })
}

/// The places of a view's elements, in elements from the first one, the last axis fastest.
pub(crate) fn positions<'a>(
    shape: &'a [usize],
    strides: &'a [usize],
) -> impl Iterator<Item = usize> + 'a {
    let elements: usize = shape.iter().product();
    (0..elements).map(move |mut index| {
        let mut position = 0;
        for (&length, &stride) in shape.iter().zip(strides).rev() {
            position += index % length * stride;
            index /= length;
        }
        position
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: &[usize]) -> Tensor<Cpu, f32> {
        let values = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
        Tensor::from_vec(values, shape).unwrap()
    }

    #[test]
    fn views_share_memory_and_see_their_part() {
        let x = numbers(&[2, 3, 4]);
        let part = x.narrowed(1, 1..3).unwrap().transposed(1, 2).unwrap();
        assert_eq!(**part.shape(), [2, 4, 2]);
        assert_eq!(part.to_vec().unwrap()[..4], [4.0, 8.0, 5.0, 9.0]);
        assert!(part.overlaps(&x));
        assert!(!part.is_contiguous());
        assert!(!x.narrowed(0, 0..1).unwrap().overlaps(&x.narrowed(0, 1..2).unwrap()));
        assert_eq!(**numbers(&[2, 0, 4]).narrowed(0, 1..2).unwrap().shape(), [1, 0, 4]);
    }

    #[test]
    fn a_view_cannot_leave_its_buffer() {
        let buffer = Cpu.allocate(16).unwrap();
        let view = |offset, shape: &[usize], strides: &[usize]| {
            Tensor::<Cpu, f32>::from_buffer(&Cpu, buffer.clone(), offset, shape, strides)
        };
        assert!(view(0, &[4], &[1]).is_ok());
        assert!(view(4, &[2], &[2]).is_ok());
        assert!(view(8, &[2], &[2]).is_err());
        assert!(view(2, &[1], &[1]).is_err());
        assert!(view(0, &[2, 2], &[1]).is_err());
        assert!(view(0, &[usize::MAX], &[usize::MAX]).is_err());
    }

    #[test]
    fn types_are_checked_at_run_time() {
        let x = numbers(&[3]);
        let error = x.typed::<f64>().unwrap_err();
        assert_eq!(error.to_string(), "tensor: tensor `view`: expected elements f64, found f32");
    }

    #[test]
    fn an_owned_vector_comes_back_without_a_copy() {
        let x = numbers(&[5]);
        let address = x.buffer().address();
        let values = x.into_vec().unwrap();
        assert_eq!(values.as_ptr() as usize, address);
    }
}
