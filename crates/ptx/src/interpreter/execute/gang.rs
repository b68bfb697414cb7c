//! A gang: the blocks of a cluster, which run side by side on one host thread and reach each other's shared
//! memory. Without clusters every block is a gang of its own.

use super::super::counters::Tally;
use super::super::fault::Fault;
use super::super::memory::GlobalView;
use super::super::options::Schedule;
use super::super::random::Random;
use super::block::Block;
use super::grid::Grid;

pub(super) struct Gang<'g> {
    grid: &'g Grid<'g>,
    /// By rank.
    pub blocks: Vec<Block<'g>>,
    random: Random,
}

/// The other blocks of the gang, as one of them sees them while it runs.
pub(super) struct Peers<'a, 'g> {
    /// Those of lower rank, whose number is the own rank.
    before: &'a mut [Block<'g>],
    after: &'a mut [Block<'g>],
}

impl<'g> Peers<'_, 'g> {
    /// The rank of the block whose peers they are.
    pub fn own(&self) -> usize {
        self.before.len()
    }

    pub fn get(&self, rank: usize) -> Option<&Block<'g>> {
        let own = self.own();
        if rank < own { self.before.get(rank) } else { self.after.get(rank.checked_sub(own + 1)?) }
    }

    pub fn get_mut(&mut self, rank: usize) -> Option<&mut Block<'g>> {
        let own = self.own();
        if rank < own {
            self.before.get_mut(rank)
        } else {
            self.after.get_mut(rank.checked_sub(own + 1)?)
        }
    }

    /// The same peers, lent for a while.
    pub fn lend(&mut self) -> Peers<'_, 'g> {
        Peers { before: self.before, after: self.after }
    }
}

impl<'g> Gang<'g> {
    /// The gang of this number: its blocks are numbered one behind the other.
    pub fn new(grid: &'g Grid<'g>, memory: &GlobalView, number: u32) -> Self {
        let size = grid.geometry().cluster;
        let first = number * size;
        let blocks = (first..first + size).map(|one| Block::new(grid, memory.clone(), one));
        let random = Random::new(grid.options.seed, !u64::from(number));
        Self { grid, blocks: blocks.collect(), random }
    }

    pub fn done(&self) -> bool {
        self.blocks.iter().all(Block::done)
    }

    /// A round for every block; gives the instructions that ran.
    pub fn round(&mut self) -> Result<u64, Fault> {
        let mut order: Vec<usize> = (0..self.blocks.len()).collect();
        if order.len() > 1 && self.grid.options.schedule == Schedule::Shuffled {
            self.random.shuffle(&mut order);
        }
        let mut ran = 0;
        for rank in order {
            let (before, rest) = self.blocks.split_at_mut(rank);
            if let Some((block, after)) = rest.split_first_mut() {
                let mut peers = Peers { before, after };
                ran += block.round(peers.lend())?;
                block.carry(peers.lend())?;
                block.carry_products(peers)?;
            }
        }
        self.complete_cluster_barrier();
        for block in &mut self.blocks {
            if std::mem::take(&mut block.common.progress) {
                self.grid.made_progress();
            }
        }
        if !self.done() && !self.blocks.iter().any(Block::ready) {
            return Err(self.waiting().stuck());
        }
        Ok(ran)
    }

    /// The first block that has not ended.
    pub fn waiting(&self) -> &Block<'g> {
        let left = self.blocks.iter().find(|block| !block.done());
        left.unwrap_or(&self.blocks[0])
    }

    /// What the blocks have counted; gives the barriers that were completed.
    pub fn add_to(&self, tallies: &mut [Tally]) -> u64 {
        for block in &self.blocks {
            for (sum, one) in tallies.iter_mut().zip(&block.common.tallies) {
                *sum += *one;
            }
        }
        self.blocks.iter().map(|block| block.common.completed).sum()
    }
}
