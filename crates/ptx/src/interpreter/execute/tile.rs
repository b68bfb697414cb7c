//! Bulk copies of boxes of tensors.

use super::super::decode::action::{BulkTensor, Place};
use super::super::fault::{Fault, FaultKind};
use super::super::memory::Strength;
use super::super::row::{Mask, lanes};
use super::super::tensor_map::TensorMap;
use super::transfer::{Combine, Source, Target, Tile, Work};
use super::turn::Turn;

/// What the address of a map is a multiple of, and that of a tile in shared memory.
const MAP_ALIGNMENT: u64 = 64;
const TILE_ALIGNMENT: u64 = 128;

impl Tile {
    /// What of each row of the box lies in the tensor: address and bytes.
    pub fn rows(&self) -> impl Iterator<Item = (u64, u64)> {
        let row = u64::from(self.map.tile.first().copied().unwrap_or(1)) * self.map.size();
        let inside = move |start: u64| {
            let elements = (start..start + row).step_by(self.map.size() as usize);
            elements.filter_map(|at| self.map.element_at(&self.first, at))
        };
        (0..self.map.bytes()).step_by(row as usize).filter_map(move |start| {
            let first = inside(start).next()?;
            Some((first, inside(start).count() as u64 * self.map.size()))
        })
    }
}

impl Turn<'_, '_> {
    pub fn bulk_tensor(&mut self, bulk: &BulkTensor, active: Mask) -> Result<(), Fault> {
        let maps = self.addresses(bulk.map, active)?;
        let shared = self.addresses(bulk.shared, active)?;
        self.require(self.defined(&bulk.coordinates), active, "a coordinate")?;
        for lane in lanes(active) {
            let map = self.tensor_map(lane, maps[lane])?;
            let coordinate = |&register: &u32| self.row(register)[lane] as u32 as i32;
            let first: Vec<i32> = bulk.coordinates.iter().map(coordinate).collect();
            if map.extents.len() != first.len() {
                let message =
                    format!("{} coordinates for {} dimensions", first.len(), map.extents.len());
                return Err(self.fault(FaultKind::Undefined, lane, message));
            }
            let work = self.tile_work(lane, bulk, shared[lane], Tile { map, first })?;
            let object = match bulk.object {
                Some(object) => Some(self.bulk_object(lane, object)?),
                None => None,
            };
            if let Target::Shared(spots) = &work.target
                && let [spot, ..] = spots[..]
                && bulk.ranks.is_none()
            {
                self.same_block(lane, spot, object)?;
            }
            self.send(lane, work, object);
        }
        Ok(())
    }

    fn tile_work(
        &self,
        lane: usize,
        bulk: &BulkTensor,
        shared: u64,
        tile: Tile,
    ) -> Result<Work, Fault> {
        let spot = self.object_spot(lane, bulk.shared, shared)?;
        if !spot.offset.is_multiple_of(TILE_ALIGNMENT) {
            let message = format!("a tile begins at a multiple of {TILE_ALIGNMENT}");
            return Err(self.fault_at(FaultKind::Misaligned, lane, spot.offset, message));
        }
        let swizzle = tile.map.swizzle;
        let bytes = u32::try_from(tile.map.bytes()).unwrap_or(u32::MAX);
        let combine = bulk.combine.map(|operation| Combine { operation, ty: tile.map.element });
        let (source, target) = match bulk.object {
            Some(_) => (Source::Tile(tile), Target::Shared(self.spread(lane, spot, bulk.ranks)?)),
            None => {
                self.check_proxy(lane, spot.offset, bytes)?;
                (Source::Shared(spot.offset), Target::Tile(tile))
            }
        };
        Ok(Work { source, target, bytes, combine, swizzle })
    }

    /// The map at a generic address. What it is read from must not change in the grid.
    fn tensor_map(&mut self, lane: usize, address: u64) -> Result<TensorMap, Fault> {
        if !address.is_multiple_of(MAP_ALIGNMENT) {
            let message = format!("a tensor map lies at a multiple of {MAP_ALIGNMENT}");
            return Err(self.fault_at(FaultKind::Misaligned, lane, address, message));
        }
        let mut bytes = [0; 128];
        for (at, unit) in bytes.chunks_mut(16).enumerate() {
            let mut buffer = [0; 16];
            let access = self.access(address + 16 * at as u64, 16, Strength::ReadOnly);
            self.load_lane(Place::Generic, lane, &access, &mut buffer)?;
            unit.copy_from_slice(&buffer);
        }
        TensorMap::decode(&bytes).ok_or_else(|| {
            let message = "no tensor map lies there: pass the generic address of an encoded one";
            self.fault_at(FaultKind::Undefined, lane, address, message.to_owned())
        })
    }
}
