//! Instructions that the lanes of a warp execute together.

use super::super::decode::action::{Action, Address, Condition, Register};
use super::super::exchange;
use super::super::fault::{Fault, FaultKind};
use super::super::memory::Strength;
use super::super::row::{LANES, Mask, Row, lanes};
use super::super::tensor::matrices;
use super::super::tensor::product::Product;
use super::turn::{Flow, Turn};

impl Turn<'_, '_> {
    /// Takes a step that needs lanes to come together: those of its member mask, or all.
    pub fn together(&mut self, action: &Action, active: Mask, group: Mask) -> Result<Flow, Fault> {
        match action {
            Action::Barrier(barrier) => return self.barrier(barrier, active, group),
            Action::Warpgroup(action) => return self.warpgroup(action, active, group),
            Action::ClusterBarrier(barrier) => {
                return self.cluster_barrier(barrier, active, group);
            }
            Action::MatrixLoad { .. }
            | Action::MatrixStore { .. }
            | Action::MatrixTranspose { .. }
            | Action::Product { .. } => {
                if !self.whole_warp(active, group)? {
                    return Ok(Flow::WaitForLanes);
                }
                self.matrices(action, active)?;
            }
            Action::Shuffle { sources, .. } => {
                let Some(parts) = self.members(sources[3], active, group)? else {
                    return Ok(Flow::WaitForLanes);
                };
                for part in parts {
                    self.shuffle(action, part)?;
                }
            }
            Action::Vote { members, .. }
            | Action::Ballot { members, .. }
            | Action::Match { members, .. }
            | Action::Reduce { members, .. }
            | Action::Elect { members, .. }
            | Action::WarpBarrier { members } => {
                let Some(parts) = self.members(*members, active, group)? else {
                    return Ok(Flow::WaitForLanes);
                };
                for part in parts {
                    self.exchange(action, part)?;
                }
            }
            _ => {}
        }
        Ok(Flow::Next)
    }

    /// The lanes of each member mask, if all of them that live are here. Those that have not come yet are
    /// waited for; what they can never do is told when nobody can go on.
    fn members(
        &self,
        members: Register,
        active: Mask,
        group: Mask,
    ) -> Result<Option<Vec<Mask>>, Fault> {
        self.require(self.defined(&[members]), active, "the member mask")?;
        let row = self.row(members);
        let (mut left, mut parts, mut complete) = (active, Vec::with_capacity(1), true);
        while left != 0 {
            let mask = row[Self::first(left)] as Mask;
            let part = lanes(left)
                .filter(|&lane| row[lane] as Mask == mask)
                .fold(0, |all, lane| all | 1 << lane);
            self.check_members(mask, part, active, group)?;
            complete &= mask & self.warp.live & !active == 0;
            parts.push(part);
            left &= !part;
        }
        Ok(complete.then_some(parts))
    }

    /// The lanes of `part` have this member mask.
    fn check_members(
        &self,
        mask: Mask,
        part: Mask,
        active: Mask,
        group: Mask,
    ) -> Result<(), Fault> {
        let (outside, differing, skipped) =
            (part & !mask, mask & active & !part, mask & group & !active);
        let told = if outside != 0 {
            (outside, "is not in its own member mask")
        } else if differing != 0 {
            (differing, "has another member mask than lanes that name it in theirs,")
        } else if skipped != 0 {
            (skipped, "skips the instruction by its guard, though it is in the member mask")
        } else {
            return Ok(());
        };
        let lane = Self::first(told.0);
        let message = format!("lane {lane} {} {mask:#010x}", told.1);
        Err(self.fault(FaultKind::DivergentSync, lane, message))
    }

    /// Whether all lanes of the warp are here, as `.aligned` demands.
    pub fn whole_warp(&self, active: Mask, group: Mask) -> Result<bool, Fault> {
        if active != group {
            let lane = Self::first(group & !active);
            let message = "an `.aligned` instruction whose guard differs among the lanes of a warp";
            return Err(self.fault(FaultKind::DivergentSync, lane, message));
        }
        Ok(active == self.warp.live)
    }

    fn shuffle(&mut self, action: &Action, active: Mask) -> Result<(), Fault> {
        let Action::Shuffle { mode, sources, to, found } = action else { return Ok(()) };
        self.require(self.defined(&sources[1..3]), active, "the lane of a shuffle")?;
        let [a, b, c, _] = self.rows(sources);
        let shuffled = match exchange::shuffle::shuffle(*mode, a, b, c, active) {
            Ok(shuffled) => shuffled,
            Err(exchange::shuffle::Inactive { reader, source }) => {
                let message = format!("it reads lane {source}, which does not take part");
                return Err(self.fault(FaultKind::InactiveLane, reader, message));
            }
        };
        let from = self.warp.defined[sources[0] as usize];
        let defined =
            lanes(active).fold(0, |mask, lane| mask | (from >> shuffled.sources[lane] & 1) << lane);
        self.warp.write(*to, &shuffled.values, defined, active);
        if let Some(found) = found {
            self.warp.write_predicate(*found, shuffled.in_range, Mask::MAX, active);
        }
        Ok(())
    }

    fn exchange(&mut self, action: &Action, active: Mask) -> Result<(), Fault> {
        match *action {
            Action::Vote { question, condition, to, .. } => {
                let holds = self.asked(condition, active)?;
                let answer = exchange::vote(question, holds, active);
                self.warp.write_predicate(to, answer, Mask::MAX, active);
            }
            Action::Ballot { condition, to, .. } => {
                let holds = self.asked(condition, active)?;
                self.warp.write(to, &exchange::ballot(holds, active), Mask::MAX, active);
            }
            Action::Match { all, source, to, found, .. } => {
                self.require(self.defined(&[source]), active, "the value to match")?;
                let (row, same) = match all {
                    true => exchange::match_all(self.row(source), active),
                    false => (exchange::match_any(self.row(source), active), active),
                };
                if let Some(to) = to {
                    self.warp.write(to, &row, Mask::MAX, active);
                }
                if let Some(found) = found {
                    self.warp.write_predicate(found, same, Mask::MAX, active);
                }
            }
            Action::Reduce { operation, source, to, .. } => {
                let row = exchange::reduce(operation, self.row(source), active);
                let defined = if active & !self.defined(&[source]) == 0 { Mask::MAX } else { 0 };
                self.warp.write(to, &row, defined, active);
            }
            Action::Elect { to, leader, .. } => {
                // Any lane may lead, but for one mask always the same.
                let nth =
                    super::super::random::Random::new(self.grid.options.seed, u64::from(active))
                        .below(active.count_ones() as usize);
                let chosen = lanes(active).nth(nth).unwrap_or(0);
                if let Some(to) = to {
                    self.warp.write(to, &[chosen as u64; LANES], Mask::MAX, active);
                }
                self.warp.write_predicate(leader, 1 << chosen, Mask::MAX, active);
            }
            Action::WarpBarrier { .. } => {
                let warp = self.warp.index as u32;
                self.common.clocks.warp_barrier(warp, active);
            }
            _ => {}
        }
        Ok(())
    }

    /// The lanes in which a predicate holds that all of them must have written.
    pub fn asked(&self, condition: Condition, active: Mask) -> Result<Mask, Fault> {
        self.require(self.warp.known(condition), active, "the predicate")?;
        Ok(self.warp.holds(condition))
    }

    fn matrices(&mut self, action: &Action, active: Mask) -> Result<(), Fault> {
        if active != Mask::MAX {
            let message =
                "a matrix instruction needs all 32 lanes, and some do not exist or have exited";
            return Err(self.fault(FaultKind::DivergentSync, Self::first(active), message));
        }
        match action {
            Action::MatrixLoad { address, transposed, to } => {
                self.matrix_load(*address, *transposed, to)
            }
            Action::MatrixStore { address, transposed, sources } => {
                self.matrix_store(*address, *transposed, sources)
            }
            Action::MatrixTranspose { source, to } => {
                let row = matrices::transpose(self.row(*source));
                let defined = if self.defined(&[*source]) == Mask::MAX { Mask::MAX } else { 0 };
                self.warp.write(*to, &row, defined, active);
                Ok(())
            }
            Action::Product { product, a, b, c, to } => {
                self.product(product, [a, b, c], to);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn product(&mut self, product: &Product, sources: [&Vec<Register>; 3], to: &[Register]) {
        let warp = &*self.warp;
        let [a, b, c] = sources.map(|list| {
            list.iter().map(|&register| &warp.rows[register as usize]).collect::<Vec<&Row>>()
        });
        let [known_a, known_b, known_c] = sources.map(|list| {
            list.iter().map(|&register| warp.defined[register as usize]).collect::<Vec<Mask>>()
        });
        let mut result = vec![[0; LANES]; to.len()];
        let seed = self.common.random.next();
        product.multiply(&a, &b, &c, self.grid.options.sums, seed, &mut result);
        let defined = product.defined(&known_a, &known_b, &known_c);
        for ((&to, row), defined) in to.iter().zip(&result).zip(defined) {
            self.warp.write(to, row, defined, Mask::MAX);
        }
    }

    /// Lane 8q + r holds the address of row r of matrix q; with fewer than four matrices the other lanes'
    /// addresses are not looked at.
    fn matrix_rows(&mut self, address: Address, matrices: usize) -> Result<Row, Fault> {
        let named = if matrices >= 4 { Mask::MAX } else { (1 << (8 * matrices)) - 1 };
        let addresses = self.addresses(address, named)?;
        self.tally().matrices(&addresses, matrices as u32);
        Ok(addresses)
    }

    fn matrix_load(
        &mut self,
        address: Address,
        transposed: bool,
        to: &[Register],
    ) -> Result<(), Fault> {
        let addresses = self.matrix_rows(address, to.len())?;
        for (matrix, &to) in to.iter().enumerate() {
            let mut rows = [[0; 16]; 8];
            let mut undefined = [0u16; 8];
            for (r, row) in rows.iter_mut().enumerate() {
                let lane = matrices::address_lane(matrix, r);
                let access = self.access(addresses[lane], 16, Strength::Weak);
                undefined[r] = self.load_lane(address.place, lane, &access, row)?.undefined;
            }
            let row = matrices::load_fragment(&rows, transposed);
            let defined = matrices::defined_by_rows(&undefined.map(|bytes| !bytes), transposed);
            self.warp.write(to, &row, defined, Mask::MAX);
        }
        Ok(())
    }

    fn matrix_store(
        &mut self,
        address: Address,
        transposed: bool,
        sources: &[Register],
    ) -> Result<(), Fault> {
        let addresses = self.matrix_rows(address, sources.len())?;
        for (matrix, &source) in sources.iter().enumerate() {
            let rows = matrices::store_fragment(self.row(source), transposed);
            let known = matrices::rows_defined_by(self.defined(&[source]), transposed);
            for (r, (row, known)) in rows.iter().zip(known).enumerate() {
                let lane = matrices::address_lane(matrix, r);
                let access = self.access(addresses[lane], 16, Strength::Weak);
                self.store_lane(address.place, lane, &access, row, !known, None)?;
            }
        }
        Ok(())
    }
}
