//! What a step does to registers.

use super::super::arithmetic::{self, Rule};
use super::super::decode::action::{
    Action, Address, Compute, Condition, Register, Step, Test, Window,
};
use super::super::fault::{Fault, FaultKind};
use super::super::options::Approximations;
use super::super::row::{LANES, Mask, Row, lanes};
use super::turn::{Flow, Turn};
use super::windows;

impl Turn<'_, '_> {
    /// Takes a step with the lanes of `active`, in which its guard holds, of the group `lanes`.
    pub fn step(&mut self, step: &Step, active: Mask, lanes: Mask) -> Result<Flow, Fault> {
        match &step.action {
            Action::Nothing => {}
            Action::Compute(compute) => self.compute(compute, active)?,
            Action::Test(test) => self.test(test, active),
            Action::Select { sources, condition, to } => {
                self.select(*sources, *condition, *to, active)?
            }
            Action::Logic { operation, sources, to } => {
                let value =
                    operation.apply(self.warp.holds(sources[0]), self.warp.holds(sources[1]));
                let known = self.warp.known(sources[0]) & self.warp.known(sources[1]);
                self.warp.write_predicate(*to, value, known, active);
            }
            Action::Pack { sources, bits, to } => self.pack(sources, *bits, *to, active),
            Action::Unpack { source, bits, to } => self.unpack(*source, *bits, to, active),
            Action::Window(window) => self.window(window, active)?,
            Action::Clock { to, bits, shift } => {
                let value = self.warp.clock >> shift & windows::low_bits(*bits);
                self.warp.write(*to, &[value; LANES], Mask::MAX, active);
            }
            Action::Load(load) => self.load(load, active)?,
            Action::Store(store) => self.store(store, active)?,
            Action::Atomic(atomic) => self.atomic(atomic, active)?,
            Action::Copy(copy) => self.copy(copy, active)?,
            Action::CopyCommit => self.copy_commit(active),
            Action::CopyWait(pending) => self.copy_wait(*pending, active)?,
            Action::CopyArrive { address, counted } => {
                self.copy_arrive(*address, *counted, active)?
            }
            Action::Branch { target, uniform } => {
                return self.branch(*target, *uniform, active, lanes);
            }
            Action::BranchIndexed { index, targets, uniform } => {
                return self.branch_indexed(*index, targets, *uniform, active);
            }
            Action::Exit => {
                self.check_exit(active)?;
                self.check_bulk_exit(active)?;
                self.check_products(active)?;
                return Ok(Flow::Exit(active));
            }
            Action::Trap(why) => {
                return Err(self.fault(FaultKind::Trap, Self::first(active), *why));
            }
            Action::Fence { scope } => {
                for lane in self::lanes(active) {
                    let thread = self.thread(lane);
                    self.common.clocks.fence(thread, *scope);
                }
            }
            Action::ActiveMask { to } => {
                let mut row = [0; LANES];
                row.fill(u64::from(active));
                self.warp.write(*to, &row, Mask::MAX, active);
            }
            Action::ObjectBarrier(barrier) => self.object_barrier(barrier, active)?,
            Action::Bulk(bulk) => self.bulk(bulk, active)?,
            Action::BulkTensor(bulk) => self.bulk_tensor(bulk, active)?,
            Action::BulkCommit => self.bulk_commit(active),
            Action::BulkWait { pending, read } => self.bulk_wait(*pending, *read, active)?,
            Action::RemoteStore(store) => self.remote_store(store, active)?,
            Action::ProxyFence => {
                for lane in self::lanes(active) {
                    let thread = self.thread(lane);
                    self.common.proxy.iter_mut().for_each(|proxy| proxy.fence(thread));
                }
            }
            together => return self.together(together, active, lanes),
        }
        Ok(Flow::Next)
    }

    fn compute(&mut self, compute: &Compute, active: Mask) -> Result<(), Fault> {
        let rows = compute.sources.map(|source| &self.warp.rows[source as usize]);
        let defined = self.defined(&compute.sources[..compute.used]);
        if let Some(forbidden) = compute.forbidden {
            let lanes = forbidden(&rows) & active & defined;
            if lanes != 0 {
                let message =
                    "the instruction has no defined result for these inputs (division by zero)";
                return Err(self.fault(FaultKind::Undefined, Self::first(lanes), message));
            }
        }
        let mut result = [0; LANES];
        match compute.rule {
            Rule::Map(map) => map(&rows, &mut result),
            Rule::Approximate(approximate) => match self.grid.options.approximations {
                Approximations::Rounded => approximate(&rows, None, &mut result),
                Approximations::Perturbed => {
                    let noise: Row = std::array::from_fn(|_| self.common.random.next());
                    approximate(&self.rows(&compute.sources), Some(&noise), &mut result);
                }
            },
            Rule::Carry(carry) => {
                let out = carry(&rows, self.warp.carry, &mut result);
                self.carry(compute.carries, out, defined, active)?;
            }
            Rule::Test(test) => {
                let masks = test(&rows).map(|mask| {
                    let with = compute.combine.map(|(logic, with)| (logic, self.warp.holds(with)));
                    with.map_or(mask, |(logic, with)| logic.apply(mask, with))
                });
                arithmetic::spread(masks, compute.truth, &mut result);
            }
        }
        let defined =
            compute.combine.map_or(defined, |(_, condition)| defined & self.warp.known(condition));
        if let Some((ty, register)) = compute.extend {
            arithmetic::extend(&mut result, ty, register);
        }
        if let (Some(to), Some((logic, condition))) = (compute.nonzero, compute.combine) {
            let nonzero = mask_of(&result, |bits| bits != 0);
            let value = logic.apply(nonzero, self.warp.holds(condition));
            self.warp.write_predicate(to, value, defined, active);
        }
        if let Some(to) = compute.to {
            self.warp.write(to, &result, defined, active);
        }
        Ok(())
    }

    /// Hands the carry on. It lives from one instruction of a chain to the next.
    fn carry(
        &mut self,
        [reads, writes]: [bool; 2],
        out: Mask,
        defined: Mask,
        active: Mask,
    ) -> Result<(), Fault> {
        if reads {
            self.require(self.warp.carry_defined, active, "the carry")?;
        }
        if writes {
            self.warp.carry = (self.warp.carry & !active) | (out & active);
            self.warp.carry_defined = (self.warp.carry_defined & !active) | (defined & active);
        }
        Ok(())
    }

    fn test(&mut self, test: &Test, active: Mask) {
        let rows = self.rows(&test.sources);
        let mut results = (test.rule)(&rows);
        let mut defined = self.defined(&test.sources[..test.used]);
        if let Some((logic, condition)) = test.combine {
            let with = self.warp.holds(condition);
            defined &= self.warp.known(condition);
            results = results.map(|result| logic.apply(result, with));
        }
        for (to, result) in test.to.iter().zip(results) {
            if let Some(to) = to {
                self.warp.write_predicate(*to, result, defined, active);
            }
        }
    }

    fn select(
        &mut self,
        sources: [Register; 2],
        condition: Condition,
        to: Register,
        active: Mask,
    ) -> Result<(), Fault> {
        self.require(self.warp.known(condition), active, "the predicate")?;
        let chosen = self.warp.holds(condition);
        let [a, b] = sources.map(|source| self.row(source));
        let row: Row =
            std::array::from_fn(|lane| if chosen >> lane & 1 == 1 { a[lane] } else { b[lane] });
        let [a, b] = sources.map(|source| self.warp.defined[source as usize]);
        self.warp.write(to, &row, (a & chosen) | (b & !chosen), active);
        Ok(())
    }

    fn pack(&mut self, sources: &[Register], bits: u32, to: Register, active: Mask) {
        let mut row = [0; LANES];
        for (part, &source) in sources.iter().enumerate() {
            let from = self.row(source);
            for lane in 0..LANES {
                row[lane] |= (from[lane] & windows::low_bits(bits)) << (part as u32 * bits);
            }
        }
        let defined = self.defined(sources);
        self.warp.write(to, &row, defined, active);
    }

    fn unpack(&mut self, source: Register, bits: u32, to: &[Option<Register>], active: Mask) {
        let from = *self.row(source);
        let defined = self.defined(&[source]);
        for (part, to) in to.iter().enumerate() {
            let Some(to) = to else { continue };
            let row = from.map(|value| value >> (part as u32 * bits) & windows::low_bits(bits));
            self.warp.write(*to, &row, defined, active);
        }
    }

    fn window(&mut self, window: &Window, active: Mask) -> Result<(), Fault> {
        match *window {
            Window::ToGeneric { place, source, to } => {
                let row = self.row(source).map(|address| windows::to_generic(place, address));
                let defined = self.defined(&[source]);
                self.warp.write(to, &row, defined, active);
            }
            Window::FromGeneric { place, source, to } => {
                let from = *self.row(source);
                let defined = self.defined(&[source]);
                let mut row = [0; LANES];
                for lane in lanes(active & defined) {
                    row[lane] = match windows::from_generic(place, from[lane]) {
                        Some(address) => address,
                        None => {
                            let message = format!(
                                "a generic address of another space was converted to .{}",
                                windows::name(place)
                            );
                            return Err(self.fault_at(
                                FaultKind::WrongSpace,
                                lane,
                                from[lane],
                                message,
                            ));
                        }
                    };
                }
                self.warp.write(to, &row, defined, active);
            }
            Window::Inside { place, source, to } => {
                let value = mask_of(self.row(source), |address| {
                    windows::from_generic(place, address).is_some()
                });
                let defined = self.defined(&[source]);
                self.warp.write_predicate(to, value, defined, active);
            }
            Window::Map { source, rank, to, generic } => {
                self.map_address([source, rank, to], generic, active)?;
            }
            Window::Rank { source, to, generic } => {
                self.rank_of_address(source, to, generic, active)?;
            }
        }
        Ok(())
    }

    fn branch(
        &mut self,
        target: usize,
        uniform: bool,
        active: Mask,
        lanes: Mask,
    ) -> Result<Flow, Fault> {
        if uniform && active != lanes {
            let message = "`bra.uni` promises that all lanes agree, and they do not";
            return Err(self.fault(FaultKind::Branch, Self::first(lanes & !active), message));
        }
        Ok(Flow::Jump { taken: active, target })
    }

    fn branch_indexed(
        &mut self,
        index: Register,
        targets: &[usize],
        uniform: bool,
        active: Mask,
    ) -> Result<Flow, Fault> {
        self.require(self.defined(&[index]), active, "the index of the branch")?;
        let row = *self.row(index);
        let mut parts: Vec<(usize, Mask)> = Vec::new();
        for lane in lanes(active) {
            let found = usize::try_from(row[lane]).ok().and_then(|index| targets.get(index));
            let Some(&target) = found else {
                let message = format!("index {} of {} targets", row[lane], targets.len());
                return Err(self.fault(FaultKind::Branch, lane, message));
            };
            match parts.iter_mut().find(|(pc, _)| *pc == target) {
                Some((_, mask)) => *mask |= 1 << lane,
                None => parts.push((target, 1 << lane)),
            }
        }
        if uniform && parts.len() > 1 {
            let message = "`brx.idx.uni` promises that all lanes agree, and they do not";
            return Err(self.fault(FaultKind::Branch, Self::first(active), message));
        }
        Ok(Flow::Scatter(parts))
    }

    /// The addresses of an access in each lane.
    pub fn addresses(&self, address: Address, active: Mask) -> Result<Row, Fault> {
        self.require(self.defined(&[address.base]), active, "the address")?;
        Ok(self.row(address.base).map(|base| base.wrapping_add_signed(address.offset)))
    }
}

/// The lanes whose bits satisfy a test.
pub(super) fn mask_of(row: &Row, test: impl Fn(u64) -> bool) -> Mask {
    row.iter().enumerate().fold(0, |mask, (lane, &bits)| mask | Mask::from(test(bits)) << lane)
}
