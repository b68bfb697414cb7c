//! Arrays of floats whose type is settled at run time.

use half::{bf16, f16};

use crate::element::DType;

/// Floats in their own type.
#[derive(Clone, Debug, PartialEq)]
pub enum Floats {
    /// In f16.
    F16(Vec<f16>),
    /// In bf16.
    Bf16(Vec<bf16>),
    /// In f32.
    F32(Vec<f32>),
}

impl Floats {
    /// None of them, in this type; f32 where it is no type of 16 bits.
    pub fn empty(dtype: DType) -> Self {
        Self::rounded(dtype, &[])
    }

    /// These numbers, each rounded to the nearest of the type, ties to even; f32 where it is no type
    /// of 16 bits.
    pub fn rounded(dtype: DType, values: &[f32]) -> Self {
        match dtype {
            DType::F16 => Self::F16(values.iter().map(|&x| f16::from_f32(x)).collect()),
            DType::BF16 => Self::Bf16(values.iter().map(|&x| bf16::from_f32(x)).collect()),
            _ => Self::F32(values.to_vec()),
        }
    }

    /// Those whose memory these bytes are, wherever they lie; of a type that there is.
    pub(crate) fn from_bytes(dtype: DType, bytes: &[u8]) -> Option<Self> {
        Some(match dtype {
            DType::F16 => Self::F16(bytemuck::pod_collect_to_vec(bytes)),
            DType::BF16 => Self::Bf16(bytemuck::pod_collect_to_vec(bytes)),
            DType::F32 => Self::F32(bytemuck::pod_collect_to_vec(bytes)),
            _ => return None,
        })
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F16(_) => DType::F16,
            Self::Bf16(_) => DType::BF16,
            Self::F32(_) => DType::F32,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element, which f32 holds exactly.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Self::F16(values) => values[i].to_f32(),
            Self::Bf16(values) => values[i].to_f32(),
            Self::F32(values) => values[i],
        }
    }

    /// All elements, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        (0..self.len()).map(|i| self.get(i))
    }

    /// The elements' memory.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::F16(values) => bytemuck::cast_slice(values),
            Self::Bf16(values) => bytemuck::cast_slice(values),
            Self::F32(values) => bytemuck::cast_slice(values),
        }
    }
}
