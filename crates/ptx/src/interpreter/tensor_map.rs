//! Tensor maps: what tells a bulk copy how a tensor lies in global memory, and which box of it to move.

use super::fault::{Fault, FaultKind};
use crate::types::Type;

/// Bytes of a tensor map.
const BYTES: usize = 128;
/// The most dimensions.
const MOST_RANK: usize = 5;
/// What an encoded map begins with: no other bytes pass for one by accident.
const MARK: u64 = 0x7477_6970_616D_7457;
/// Bytes that stay together in shared memory.
pub(crate) const UNIT: u64 = 16;

/// How the units of 16 bytes of a tile are permuted in shared memory, so that columns are free of bank
/// conflicts: bits 7 and up of the address are added to those from bit 4 on, without carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swizzle {
    /// They stay in order.
    #[default]
    None,
    /// Within 32 bytes.
    Bytes32,
    /// Within 64 bytes.
    Bytes64,
    /// Within 128 bytes.
    Bytes128,
}

impl Swizzle {
    const ALL: [Self; 4] = [Self::None, Self::Bytes32, Self::Bytes64, Self::Bytes128];

    /// Bytes within which units move; `None` stays free.
    fn span(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Bytes32 => Some(32),
            Self::Bytes64 => Some(64),
            Self::Bytes128 => Some(128),
        }
    }

    /// Where a unit of shared memory goes.
    pub(crate) fn address(self, address: u64) -> u64 {
        let mask = self.span().map_or(0, |span| span / UNIT - 1);
        address ^ (address >> 7 & mask) << 4
    }
}

/// A tensor in global memory and a box to be moved, innermost dimension first: what
/// `cuTensorMapEncodeTiled` takes, without interleaving, with element strides of 1 and zeros out of bounds.
///
/// ```
/// use warpwright_ptx::Type;
/// use warpwright_ptx::interpreter::{Swizzle, TensorMap};
///
/// let map = TensorMap {
///     element: Type::F32,
///     address: 0x1000,
///     extents: vec![100, 30],
///     strides: vec![400], // bytes between rows
///     tile: vec![8, 4],
///     swizzle: Swizzle::Bytes32,
/// };
/// assert!(map.encode().is_ok());
/// // A swizzle of 32 bytes has no room for rows of 64.
/// assert!(TensorMap { tile: vec![16, 4], ..map }.encode().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// The type of an element.
    pub element: Type,
    /// Where it begins in global memory.
    pub address: u64,
    /// Elements along each dimension.
    pub extents: Vec<u64>,
    /// Bytes between neighbours along each dimension but the first, whose elements follow each other.
    pub strides: Vec<u64>,
    /// Elements of the box along each dimension.
    pub tile: Vec<u32>,
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
}

/// The types of elements, in the order of their numbers in an encoded map.
const ELEMENTS: [Type; 10] = [
    Type::U8,
    Type::U16,
    Type::U32,
    Type::S32,
    Type::U64,
    Type::S64,
    Type::F16,
    Type::F32,
    Type::F64,
    Type::Bf16,
];

impl TensorMap {
    /// The bytes that a kernel takes as `.param .align 64 .b8 map[128]`.
    ///
    /// # Errors
    ///
    /// Where a field is outside the limits of the hardware.
    pub fn encode(&self) -> Result<[u8; BYTES], Fault> {
        let element = ELEMENTS.iter().position(|&one| one == self.element);
        let (Some(element), None) = (element, self.problem()) else {
            let problem = self.problem().unwrap_or_else(|| "no type of an element".to_owned());
            return Err(Fault {
                kind: FaultKind::Launch,
                kernel: "the host".to_owned(),
                line: 0,
                block: None,
                thread: None,
                address: Some(self.address),
                other: None,
                message: format!("a tensor map: {problem}"),
            });
        };
        let swizzle = Swizzle::ALL.iter().position(|&one| one == self.swizzle).unwrap_or(0);
        let shape = (self.extents.len() | element << 8 | swizzle << 16) as u64;
        let mut words = vec![MARK, shape, self.address];
        words.extend(&self.extents);
        words.extend(&self.strides);
        // Boxes last, four to a word.
        let boxes = self
            .tile
            .chunks(4)
            .map(|four| four.iter().rev().fold(0, |word, &extent| word << 16 | u64::from(extent)));
        words.extend(boxes);
        let mut bytes = [0; BYTES];
        for (place, word) in bytes.chunks_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Ok(bytes)
    }

    /// What was encoded, if these bytes are a map.
    pub(crate) fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = bytes.get(8 * at..8 * at + 8)?;
            Some(bytes.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte)))
        };
        if word(0)? != MARK {
            return None;
        }
        let shape = word(1)?;
        let [rank, element, swizzle] = [0, 8, 16].map(|shift| (shape >> shift & 0xFF) as usize);
        let boxes = 3 + rank + rank.checked_sub(1)?;
        let tile =
            (0..rank).map(|at| Some((word(boxes + at / 4)? >> (16 * (at % 4)) & 0xFFFF) as u32));
        let map = Self {
            element: *ELEMENTS.get(element)?,
            address: word(2)?,
            extents: (0..rank).map(|at| word(3 + at)).collect::<Option<_>>()?,
            strides: (0..rank - 1).map(|at| word(3 + rank + at)).collect::<Option<_>>()?,
            tile: tile.collect::<Option<_>>()?,
            swizzle: *Swizzle::ALL.get(swizzle)?,
        };
        map.problem().is_none().then_some(map)
    }

    /// What the hardware would refuse.
    fn problem(&self) -> Option<String> {
        let (rank, size) = (self.extents.len(), self.size());
        let inner = self.tile.first().map_or(0, |&extent| u64::from(extent) * size);
        let wrong = |range: std::ops::RangeInclusive<u64>, value: u64| !range.contains(&value);
        if wrong(1..=MOST_RANK as u64, rank as u64)
            || self.tile.len() != rank
            || self.strides.len() + 1 != rank
        {
            Some(format!(
                "{rank} extents: 1 to {MOST_RANK}, as many of the box, and one stride less"
            ))
        } else if !self.address.is_multiple_of(UNIT) {
            Some(format!("the address must be a multiple of {UNIT}"))
        } else if self.extents.iter().any(|&extent| wrong(1..=1 << 32, extent)) {
            Some("extents are 1 to 2^32".to_owned())
        } else if self.strides.iter().any(|&stride| stride % UNIT != 0 || stride >= 1 << 40) {
            Some(format!("strides are multiples of {UNIT} below 2^40 bytes"))
        } else if self.tile.iter().any(|&extent| wrong(1..=256, u64::from(extent))) {
            Some("a box has 1 to 256 elements along each dimension".to_owned())
        } else if !inner.is_multiple_of(UNIT) {
            Some(format!("a row of the box has {inner} bytes, no multiple of {UNIT}"))
        } else {
            let narrow = self.swizzle.span().filter(|&span| inner > span);
            narrow.map(|span| format!("a row of {inner} bytes does not fit the swizzle of {span}"))
        }
    }

    /// Bytes of an element.
    pub(crate) fn size(&self) -> u64 {
        u64::from(self.element.bytes())
    }

    /// Bytes of the box.
    pub(crate) fn bytes(&self) -> u64 {
        self.tile.iter().map(|&extent| u64::from(extent)).product::<u64>() * self.size()
    }

    /// Where the element at this offset of the box lies in global memory; outside of the tensor there is none.
    pub(crate) fn element_at(&self, first: &[i32], offset: u64) -> Option<u64> {
        let mut left = offset / self.size();
        let mut address = self.address;
        for (at, (&extent, &tile)) in self.extents.iter().zip(&self.tile).enumerate() {
            let within = left % u64::from(tile);
            left /= u64::from(tile);
            let place = i64::from(*first.get(at)?) + within as i64;
            let place = u64::try_from(place).ok().filter(|&place| place < extent)?;
            let stride = if at == 0 { self.size() } else { *self.strides.get(at - 1)? };
            address = address.checked_add(place.checked_mul(stride)?)?;
        }
        Some(address)
    }

    /// A unit of the box, as offsets in it, addresses and bytes: in one piece where it lies in the tensor as it
    /// does in the box, else by elements.
    pub(crate) fn pieces(&self, first: &[i32], offset: u64) -> Vec<(u64, Option<u64>, u32)> {
        let size = self.size();
        let start = self.element_at(first, offset);
        let end = self.element_at(first, offset + UNIT - size);
        if start.is_some_and(|start| start % UNIT == 0) && end.is_some() {
            return vec![(0, start, UNIT as u32)];
        }
        let element = |at: u64| (at, self.element_at(first, offset + at), size as u32);
        (0..UNIT).step_by(size as usize).map(element).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> TensorMap {
        TensorMap {
            element: Type::F16,
            address: 0x1000,
            extents: vec![20, 7, 1 << 32],
            strides: vec![48, 336],
            tile: vec![16, 4, 3],
            swizzle: Swizzle::Bytes32,
        }
    }

    #[test]
    fn an_encoded_map_reads_as_it_was() {
        let flat = TensorMap { extents: vec![9], strides: vec![], tile: vec![8], ..map() };
        let deep = TensorMap {
            element: Type::U64,
            extents: vec![5; 5],
            strides: vec![64, 512, 4096, 1 << 39],
            tile: vec![2, 256, 1, 7, 3],
            swizzle: Swizzle::None,
            ..map()
        };
        for map in [map(), flat, deep] {
            assert_eq!(TensorMap::decode(&map.encode().unwrap()), Some(map));
        }
        assert_eq!(TensorMap::decode(&[0; BYTES]), None);
    }

    #[test]
    fn what_the_hardware_refuses() {
        let refused = [
            TensorMap { address: 0x1008, ..map() },
            TensorMap { strides: vec![40, 336], ..map() },
            TensorMap { strides: vec![48], ..map() },
            TensorMap { strides: vec![48, 1 << 40], ..map() },
            TensorMap { extents: vec![20, 0, 5], ..map() },
            TensorMap { tile: vec![4, 4, 3], ..map() },
            TensorMap { tile: vec![16, 257, 3], ..map() },
            TensorMap { tile: vec![24, 4, 3], ..map() },
            TensorMap { element: Type::Pred, ..map() },
        ];
        for map in refused {
            assert_eq!(map.encode().unwrap_err().kind, FaultKind::Launch, "{map:?}");
        }
    }

    #[test]
    fn a_box_at_the_edge() {
        let map = map();
        assert_eq!(map.bytes(), 16 * 4 * 3 * 2);
        // Row 1 of the box is row 0 of the tensor; its first two elements lie before the tensor.
        assert_eq!(map.element_at(&[-2, -1, 5], 0), None);
        assert_eq!(map.element_at(&[-2, -1, 5], 32), None);
        assert_eq!(map.element_at(&[-2, -1, 5], 36), Some(0x1000 + 5 * 336));
        assert_eq!(map.element_at(&[8, 0, 0], 22), Some(0x1000 + 19 * 2));
        assert_eq!(map.element_at(&[8, 0, 0], 24), None);
        assert_eq!(map.pieces(&[8, 0, 0], 0), [(0, Some(0x1010), 16)]);
        assert_eq!(map.pieces(&[4, 0, 0], 0)[7], (14, Some(0x1000 + 22), 2));
    }
}
