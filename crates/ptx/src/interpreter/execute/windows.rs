//! Generic addresses: global memory is itself, every other space is a window high above it.

use super::super::decode::action::Place;

const SHARED: u64 = 1 << 56;
const LOCAL: u64 = 2 << 56;
const CONST: u64 = 3 << 56;
const PARAM: u64 = 4 << 56;
/// Bytes of a window.
const LENGTH: u64 = 1 << 32;

fn base(place: Place) -> Option<u64> {
    match place {
        Place::Shared | Place::Cluster => Some(SHARED),
        Place::Local => Some(LOCAL),
        Place::Const => Some(CONST),
        Place::Param => Some(PARAM),
        Place::Generic | Place::Global => None,
    }
}

/// The generic address of an address within a space.
pub(crate) fn to_generic(place: Place, address: u64) -> u64 {
    base(place).map_or(address, |base| base.wrapping_add(address & (LENGTH - 1)))
}

/// The address within a space of a generic one, if it lies in that space.
pub(super) fn from_generic(place: Place, address: u64) -> Option<u64> {
    match base(place) {
        Some(base) => address.checked_sub(base).filter(|&offset| offset < LENGTH),
        None => (address < SHARED).then_some(address),
    }
}

/// The space that a generic address lies in, and the address within it.
pub(super) fn resolve(place: Place, address: u64) -> (Place, u64) {
    if place != Place::Generic {
        return (place, address);
    }
    [Place::Shared, Place::Local, Place::Const, Place::Param]
        .into_iter()
        .find_map(|place| Some((place, from_generic(place, address)?)))
        .unwrap_or((Place::Global, address))
}

pub(super) fn name(place: Place) -> &'static str {
    match place {
        Place::Generic => "generic",
        Place::Global => "global",
        Place::Shared => "shared",
        Place::Cluster => "shared::cluster",
        Place::Local => "local",
        Place::Const => "const",
        Place::Param => "param",
    }
}

/// A mask of the low bits.
pub(super) fn low_bits(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_space_has_a_window_of_its_own() {
        for place in [Place::Shared, Place::Local, Place::Const, Place::Param] {
            let generic = to_generic(place, 40);
            assert_eq!(resolve(Place::Generic, generic), (place, 40));
            assert_eq!(from_generic(place, generic), Some(40));
            assert_eq!(from_generic(Place::Global, generic), None);
        }
        assert_eq!(resolve(Place::Generic, 1 << 40), (Place::Global, 1 << 40));
        assert_eq!(from_generic(Place::Shared, 1 << 40), None);
    }
}
