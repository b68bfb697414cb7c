//! `wgmma`: four warps multiply matrices of shared memory while they go on.
//!
//! Each warp has its own 16 rows of A and D, and a product is carried out warp by warp at a random time between
//! its issue and the wait for its group; the wait is one of all four warps, since they read B together. D lives
//! beside the registers meanwhile, which count as unwritten, so that an early use of them shows.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::decode::Code;
use super::super::decode::action::{Action, Condition, Factor, Multiply, Register, Warpgroup};
use super::super::fault::{Fault, FaultKind};
use super::super::memory::{Knowledge, Operation, Strength};
use super::super::options::Schedule;
use super::super::row::{LANES, Mask, Row};
use super::super::tensor::descriptor::{Descriptor, UNIT};
use super::block::Block;
use super::gang::Peers;
use super::turn::{Flow, Turn};
use super::warp::Waits;

/// The number of the wait for products among the barriers that a group may wait at.
pub(super) const PRODUCTS: usize = 17;
/// Warps of a warpgroup.
const WARPS: usize = 4;
/// Columns that are multiplied at a time.
const COLUMNS: usize = 8;

/// What a warp has to do with `wgmma`.
#[derive(Default)]
pub(super) struct Products {
    /// Groups that are closed; the open one has this number.
    committed: u64,
    /// In the order of issue.
    flying: VecDeque<Pending>,
    tiles: Vec<Tile>,
    /// The registers that any product of the kernel uses, and what they held at the last fence.
    registers: Vec<Register>,
    fenced: Option<Vec<(Row, Mask)>>,
    /// Registers of A in use, by group.
    lent: Vec<(u64, Register, Row)>,
    /// While the warp waits: until the groups below this are done.
    waits: Option<u64>,
    /// What those learn who wait: the reads of the products that were carried out.
    known: Option<Arc<Knowledge>>,
}

/// Accumulators in use.
struct Tile {
    registers: Vec<Register>,
    values: Vec<Row>,
    known: Vec<Mask>,
}

/// A product that was issued.
struct Pending {
    group: u64,
    pc: usize,
    /// The first register of its D.
    tile: Register,
    left: Left,
    right: Matrix,
    keep: bool,
    operation: Operation,
}

enum Left {
    Registers(Vec<Row>, Vec<Mask>),
    Memory(Matrix),
}

/// A matrix in shared memory, of elements of `size` bytes.
#[derive(Clone, Copy)]
struct Matrix {
    descriptor: Descriptor,
    mn_major: bool,
    size: usize,
    depth: usize,
}

/// Elements by mn and k, and whether each was written.
type Elements = Vec<(u64, bool)>;

impl Matrix {
    /// Rows, or columns, from `from` on: the places of the units, as mn, k and address.
    fn units(self, from: usize, count: usize) -> impl Iterator<Item = (usize, usize, u64)> {
        let (outer, inner) = if self.mn_major { (self.depth, count) } else { (count, self.depth) };
        (0..outer).flat_map(move |outer| {
            (0..inner).step_by(UNIT / self.size).map(move |inner| {
                let (mn, k) = if self.mn_major { (inner, outer) } else { (outer, inner) };
                let address = self.descriptor.address(from + mn, k, self.size, self.mn_major);
                (mn, k, address)
            })
        })
    }
}

impl Products {
    /// Whether D of a product has not been waited for.
    pub fn in_use(&self) -> bool {
        !self.flying.is_empty() || !self.tiles.is_empty()
    }

    fn tile(&mut self, first: Register) -> Option<&mut Tile> {
        self.tiles.iter_mut().find(|tile| tile.registers.first() == Some(&first))
    }
}

impl<'g> Turn<'_, 'g> {
    pub fn warpgroup(
        &mut self,
        action: &Warpgroup,
        active: Mask,
        group: Mask,
    ) -> Result<Flow, Fault> {
        if !self.whole_warp(active, group)? {
            return Ok(Flow::WaitForLanes);
        }
        let end = (self.warp.index / WARPS + 1) * WARPS * LANES;
        if active != Mask::MAX || end > self.grid.threads_per_block() as usize {
            let message = "an instruction of a warpgroup needs four whole warps";
            return Err(self.fault(FaultKind::DivergentSync, Self::first(active), message));
        }
        match action {
            Warpgroup::Fence => self.products_fence(),
            Warpgroup::Multiply(multiply) => self.multiply(multiply)?,
            Warpgroup::Commit => self.products().committed += 1,
            Warpgroup::Wait(pending) => {
                let products = self.products();
                products.waits = Some(products.committed.saturating_sub(*pending));
                return Ok(Flow::WaitAtBarrier(PRODUCTS));
            }
            Warpgroup::Registers => {}
        }
        Ok(Flow::Next)
    }

    fn products(&mut self) -> &mut Products {
        &mut self.common.products[self.warp.index]
    }

    /// Notes what the registers hold: a product may only use them as they are now.
    fn products_fence(&mut self) {
        let code: &'g Code = self.grid.code;
        let products = &mut self.common.products[self.warp.index];
        if products.registers.is_empty() {
            let all = code.steps.iter().filter_map(|step| match &step.action {
                Action::Warpgroup(Warpgroup::Multiply(multiply)) => Some(multiply.registers()),
                _ => None,
            });
            products.registers = all.flatten().collect();
            products.registers.sort_unstable();
            products.registers.dedup();
        }
        let warp = &*self.warp;
        let held = |&at: &Register| (warp.rows[at as usize], warp.defined[at as usize]);
        products.fenced = Some(products.registers.iter().map(held).collect());
    }

    /// Refuses registers that were written since the last fence.
    fn check_fenced(&self, registers: &[Register]) -> Result<(), Fault> {
        let products = &self.common.products[self.warp.index];
        let message = match &products.fenced {
            None => "there is no wgmma.fence before the product",
            Some(fenced) => {
                let same = |register: &Register| {
                    let at = products.registers.binary_search(register);
                    let held = at.ok().and_then(|at| fenced.get(at));
                    let (row, defined) = (self.row(*register), self.defined(&[*register]));
                    held.is_some_and(|held| *held == (*row, defined))
                };
                if registers.iter().all(same) {
                    return Ok(());
                }
                "a register of the product was written after the last wgmma.fence"
            }
        };
        Err(self.fault(FaultKind::Undefined, 0, message))
    }

    fn multiply(&mut self, multiply: &Multiply) -> Result<(), Fault> {
        let [left_size, right_size] = multiply.product.bytes();
        let keep = self.same_in_all_lanes(multiply.keep)?;
        let left = match &multiply.left {
            Factor::Registers(registers) => {
                self.check_fenced(registers)?;
                Left::Registers(self.lend(registers), self.masks(registers))
            }
            memory => Left::Memory(self.matrix(memory, left_size, multiply.product.depth())?),
        };
        let right = self.matrix(&multiply.right, right_size, multiply.product.depth())?;
        self.check_fence_of_proxy(&left, &right, multiply)?;
        self.occupy(&multiply.to)?;
        let thread = self.thread(0);
        let operation = self.common.clocks.start(thread);
        let tile = multiply.to.first().copied().unwrap_or_default();
        let (pc, products) = (self.pc, self.products());
        let group = products.committed;
        products.flying.push_back(Pending { group, pc, tile, left, right, keep, operation });
        self.progress();
        Ok(())
    }

    fn same_in_all_lanes(&self, condition: Condition) -> Result<bool, Fault> {
        match self.asked(condition, Mask::MAX)? {
            Mask::MAX => Ok(true),
            0 => Ok(false),
            some => {
                let message = "the predicate of a product differs among the lanes";
                Err(self.fault(FaultKind::DivergentSync, Self::first(some), message))
            }
        }
    }

    /// The registers of A, which must stay as they are until the wait.
    fn lend(&mut self, registers: &[Register]) -> Vec<Row> {
        let rows: Vec<Row> = registers.iter().map(|&register| *self.row(register)).collect();
        let products = self.products();
        let group = products.committed;
        products.lent.extend(registers.iter().zip(&rows).map(|(&at, &row)| (group, at, row)));
        rows
    }

    fn masks(&self, registers: &[Register]) -> Vec<Mask> {
        registers.iter().map(|&register| self.defined(&[register])).collect()
    }

    fn matrix(&self, factor: &Factor, size: usize, depth: usize) -> Result<Matrix, Fault> {
        let Factor::Memory { descriptor, mn_major } = *factor else {
            return Err(self.fault(FaultKind::Unsupported, 0, "B in registers"));
        };
        self.require(self.defined(&[descriptor]), Mask::MAX, "the descriptor of a matrix")?;
        let row = self.row(descriptor);
        if let Some(lane) = (0..LANES).find(|&lane| row[lane] != row[0]) {
            let message = "the descriptor of a matrix differs among the lanes";
            return Err(self.fault(FaultKind::DivergentSync, lane, message));
        }
        let Some(descriptor) = Descriptor::new(row[0]) else {
            let message =
                "a descriptor with a base offset: matrices must begin where the swizzle does";
            return Err(self.fault(FaultKind::Undefined, 0, message));
        };
        Ok(Matrix { descriptor, mn_major, size, depth })
    }

    /// Rows of A that are this warp's.
    fn first_row(&self) -> usize {
        self.warp.index % WARPS * 16
    }

    fn check_fence_of_proxy(
        &self,
        left: &Left,
        right: &Matrix,
        multiply: &Multiply,
    ) -> Result<(), Fault> {
        if let Left::Memory(left) = left {
            let mut units = left.units(self.first_row(), 16);
            units.try_for_each(|(.., address)| self.check_proxy(0, address, UNIT as u32))?;
        }
        let mut units = right.units(0, multiply.columns());
        units.try_for_each(|(.., address)| self.check_proxy(0, address, UNIT as u32))
    }

    /// D leaves its registers, unless earlier products use the same ones.
    fn occupy(&mut self, registers: &[Register]) -> Result<(), Fault> {
        let products = self.products();
        if products.tiles.iter().any(|tile| tile.registers == registers) {
            return Ok(());
        }
        let used = |register| products.tiles.iter().any(|tile| tile.registers.contains(register));
        if registers.iter().any(used) {
            let message = "another product in flight uses some of its accumulators: wait for it";
            return Err(self.fault(FaultKind::AsyncPending, 0, message));
        }
        self.check_fenced(registers)?;
        let values = registers.iter().map(|&register| *self.row(register)).collect();
        let known = self.masks(registers);
        registers.iter().for_each(|&register| self.warp.defined[register as usize] = 0);
        self.products().tiles.push(Tile { registers: registers.to_vec(), values, known });
        Ok(())
    }

    /// Carries the oldest product out.
    fn carry_out_product(&mut self) -> Result<(), Fault> {
        let Some(pending) = self.products().flying.pop_front() else { return Ok(()) };
        let code: &'g Code = self.grid.code;
        if let Action::Warpgroup(Warpgroup::Multiply(multiply)) = &code.steps[pending.pc].action {
            let pc = std::mem::replace(&mut self.pc, pending.pc);
            self.accumulate(multiply, &pending)?;
            self.pc = pc;
        }
        let mut known = pending.operation.complete();
        let products = self.products();
        if let Some(before) = &products.known {
            known.join(before);
        }
        products.known = Some(Arc::new(known));
        self.progress();
        Ok(())
    }

    fn accumulate(&mut self, multiply: &Multiply, pending: &Pending) -> Result<(), Fault> {
        let product = &multiply.product;
        let depth = product.depth();
        let (mut left, left_known) = match &pending.left {
            Left::Registers(rows, known) => (rows.clone(), known.clone()),
            Left::Memory(matrix) => {
                let a = self.read_matrix(&pending.operation, *matrix, self.first_row(), 16)?;
                product.left(|row, k| a[row * depth + k])
            }
        };
        if multiply.negated {
            left = product.negated(&left);
        }
        let b = self.read_matrix(&pending.operation, pending.right, 0, multiply.columns())?;
        let (sums, seed) = (self.grid.options.sums, self.common.random.next());
        let Some(tile) = self.products().tile(pending.tile) else { return Ok(()) };
        let per_block = product.registers()[3];
        let values = tile.values.chunks_mut(per_block).zip(tile.known.chunks_mut(per_block));
        for (block, (values, known)) in values.enumerate() {
            if !pending.keep {
                values.fill([0; LANES]);
                known.fill(Mask::MAX);
            }
            let column = |k: usize, column: usize| b[(block * COLUMNS + column) * depth + k];
            let (right, right_known) = product.right(column);
            let sum = values.to_vec();
            let [a, b, c] = [&left, &right, &sum].map(|rows| rows.iter().collect::<Vec<&Row>>());
            product.multiply(&a, &b, &c, sums, seed, values);
            known.copy_from_slice(&product.defined(&left_known, &right_known, known));
        }
        Ok(())
    }

    fn read_matrix(
        &mut self,
        operation: &Operation,
        matrix: Matrix,
        from: usize,
        count: usize,
    ) -> Result<Elements, Fault> {
        let Matrix { size, depth, mn_major, .. } = matrix;
        let mut elements = vec![(0, false); count * depth];
        for (mn, k, address) in matrix.units(from, count) {
            let mut bytes = [0; UNIT];
            let access = self.access(address, UNIT as u32, Strength::Weak);
            let loaded = self.common.shared.load(&operation.view(), &access, &mut bytes);
            let undefined = loaded.map_err(|fault| self.memory_fault(0, fault))?.undefined;
            for (at, element) in bytes.chunks(size).enumerate() {
                let bits = element.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
                let known = undefined >> (at * size) & ((1 << size) - 1) == 0;
                let (mn, k) = if mn_major { (mn + at, k) } else { (mn, k + at) };
                elements[mn * depth + k] = (bits, known);
            }
        }
        Ok(elements)
    }

    /// The wait is over: D goes back to its registers, and the warp knows what all four have read.
    fn land_products(&mut self, end: u64, known: &[Arc<Knowledge>]) -> Result<(), Fault> {
        let first = self.thread(0);
        let threads: Vec<u32> = (first..first + LANES as u32).collect();
        known.iter().for_each(|known| self.common.clocks.leave(&threads, known));
        let products = &mut self.common.products[self.warp.index];
        products.waits = None;
        let flying: Vec<Register> = products.flying.iter().map(|one| one.tile).collect();
        let landed =
            |tile: &mut Tile| tile.registers.first().is_some_and(|first| !flying.contains(first));
        let tiles: Vec<Tile> = products.tiles.extract_if(.., landed).collect();
        let lent: Vec<_> = products.lent.extract_if(.., |(group, ..)| *group < end).collect();
        let written = |registers: &[Register]| {
            registers.iter().any(|&register| self.warp.defined[register as usize] != 0)
        };
        let changed = |(_, register, row): &(u64, Register, Row)| self.row(*register) != row;
        if tiles.iter().any(|tile| written(&tile.registers)) || lent.iter().any(changed) {
            let message = "a register of a product was written before the product was waited for";
            return Err(self.fault(FaultKind::AsyncPending, 0, message));
        }
        for tile in tiles {
            for ((&to, row), &known) in tile.registers.iter().zip(&tile.values).zip(&tile.known) {
                self.warp.write(to, row, known, Mask::MAX);
                // What a product itself writes needs no fence.
                let products = &mut self.common.products[self.warp.index];
                let at = products.registers.binary_search(&to);
                if let (Ok(at), Some(fenced)) = (at, &mut products.fenced) {
                    fenced[at] = (*row, known);
                }
            }
        }
        Ok(())
    }

    /// A warp must not end before its products.
    pub fn check_products(&self, active: Mask) -> Result<(), Fault> {
        if !self.common.products[self.warp.index].in_use() {
            return Ok(());
        }
        let message = "the warp ends before a product that it started: wait for its group";
        Err(self.fault(FaultKind::AsyncPending, Self::first(active), message))
    }
}

impl Multiply {
    /// N.
    fn columns(&self) -> usize {
        self.to.len() / self.product.registers()[3] * COLUMNS
    }

    fn registers(&self) -> impl Iterator<Item = Register> {
        let left: &[Register] = match &self.left {
            Factor::Registers(registers) => registers,
            Factor::Memory { .. } => &[],
        };
        self.to.iter().chain(left).copied()
    }
}

impl<'g> Block<'g> {
    /// Carries out products, some at random, and those that warps wait for whose whole warpgroup has issued
    /// them.
    pub fn carry_products(&mut self, mut peers: Peers<'_, 'g>) -> Result<(), Fault> {
        let shuffled = self.grid.options.schedule == Schedule::Shuffled;
        for warp in 0..self.warps.len() {
            let early = shuffled && !self.common.products[warp].flying.is_empty();
            if early && self.common.random.once_in(3) {
                self.turn(warp, peers.lend()).carry_out_product()?;
            }
        }
        for warp in 0..self.warps.len() {
            let Some(end) = self.common.products[warp].waits else { continue };
            let first = warp / WARPS * WARPS;
            let group = &self.common.products[first..(first + WARPS).min(self.warps.len())];
            if group.iter().any(|one| one.committed < end) {
                continue;
            }
            self.complete_products(first, warp, end, peers.lend())?;
            self.common.progress = true;
        }
        Ok(())
    }

    fn complete_products(
        &mut self,
        first: usize,
        warp: usize,
        end: u64,
        mut peers: Peers<'_, 'g>,
    ) -> Result<(), Fault> {
        for one in first..first + WARPS {
            let due =
                |products: &Products| products.flying.front().is_some_and(|one| one.group < end);
            while due(&self.common.products[one]) {
                self.turn(one, peers.lend()).carry_out_product()?;
            }
        }
        let group = &self.common.products[first..first + WARPS];
        let known: Vec<_> = group.iter().filter_map(|one| one.known.clone()).collect();
        let waits = |waits: Waits| waits == Waits::Barrier(PRODUCTS);
        let groups = &mut self.warps[warp].groups;
        let at = groups.iter().find(|group| waits(group.waits)).map_or(0, |group| group.pc);
        let mut turn = self.turn(warp, peers);
        turn.pc = at;
        turn.land_products(end, &known)?;
        for group in self.warps[warp].groups.iter_mut().filter(|group| waits(group.waits)) {
            group.waits = Waits::No;
            group.pc += 1;
        }
        Ok(())
    }
}
