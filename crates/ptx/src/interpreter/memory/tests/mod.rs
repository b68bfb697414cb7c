//! Each fault, with a program that has it and one that is close and has not.

mod bounds;
mod host_threads;
mod oracle;
mod order;
mod pending;
mod speed;
mod synchronisation;

use std::sync::Arc;

use super::*;

const STRICT: Checks = Checks { races: true, uninitialised: true };
const LOOSE: Checks = Checks { races: false, uninitialised: false };
const DEVICE: Strength = Strength::Strong(Scope::Device);

/// A thread: block, and number in the block.
type Who = (u32, u32);

/// A grid whose threads do what the test says, one access after the other.
struct Grid {
    geometry: Geometry,
    clocks: Vec<Clocks>,
    memory: GlobalView,
    /// Where 4096 defined bytes, all zero, lie.
    at: u64,
    next: Global,
    pc: u32,
}

impl Grid {
    fn new(blocks: u32, threads: u32) -> Self {
        Self::with(blocks, Geometry { threads, cluster: 1 })
    }

    fn with(blocks: u32, geometry: Geometry) -> Self {
        let global = Global::new(0x7000_0000_0000, STRICT);
        let at = global.allocate(4096).unwrap();
        global.write(at, &[0; 4096]).unwrap();
        let memory = global.begin_launch();
        let clocks = (0..blocks).map(|block| Clocks::new(block, geometry)).collect();
        Self { geometry, clocks, memory, at, next: global, pc: 0 }
    }

    /// The next grid of the stream.
    fn launch(&mut self) {
        self.memory = self.next.begin_launch();
        let geometry = self.geometry;
        self.clocks =
            (0..self.clocks.len() as u32).map(|block| Clocks::new(block, geometry)).collect();
    }

    fn access(&mut self, offset: u64, bytes: u32, strength: Strength) -> Access {
        self.pc += 1;
        Access { address: self.at + offset, bytes, strength, pc: self.pc }
    }

    fn load(&mut self, who: Who, offset: u64, bytes: u32, how: Strength) -> Result<Loaded, Fault> {
        let access = self.access(offset, bytes, how);
        self.memory.load(&self.clocks[who.0 as usize].view(who.1), &access, &mut [0; 16])
    }

    fn store(&mut self, who: Who, offset: u64, bytes: u32, how: Strength) -> Result<(), Fault> {
        let access = self.access(offset, bytes, how);
        let value = [self.pc as u8; 16];
        let value = &value[..bytes as usize];
        self.memory.store(&self.clocks[who.0 as usize].view(who.1), &access, value, 0, None)
    }

    fn read(&mut self, who: Who, offset: u64) -> Result<(), Fault> {
        self.load(who, offset, 4, Strength::Weak).map(drop)
    }

    fn write(&mut self, who: Who, offset: u64) -> Result<(), Fault> {
        self.store(who, offset, 4, Strength::Weak)
    }

    /// A relaxed atomic that releases nothing.
    fn update(&mut self, who: Who, offset: u64, how: Strength) -> Result<(), Fault> {
        let access = self.access(offset, 4, how);
        let view = self.clocks[who.0 as usize].view(who.1);
        self.memory.atomic(&view, &access, None, &mut |old| Some(old ^ 1)).map(drop)
    }

    /// `st.relaxed` or `st.release`.
    fn signal(&mut self, who: Who, offset: u64, release: bool, scope: Scope) {
        let access = self.access(offset, 4, Strength::Strong(scope));
        let clocks = &mut self.clocks[who.0 as usize];
        let publish = clocks.publish(who.1, release, scope);
        self.memory.store(&clocks.view(who.1), &access, &[1; 4], 0, publish).unwrap();
    }

    /// `ld.relaxed` or `ld.acquire`.
    fn wait(&mut self, who: Who, offset: u64, acquire: bool, scope: Scope) {
        let access = self.access(offset, 4, Strength::Strong(scope));
        let clocks = &mut self.clocks[who.0 as usize];
        let loaded = self.memory.load(&clocks.view(who.1), &access, &mut [0; 16]).unwrap();
        clocks.learn(who.1, acquire, scope, loaded.seen.as_ref());
    }

    /// `atom.add` of 1 by the device's scope; gives the old value.
    fn add(&mut self, who: Who, offset: u64, release: bool, acquire: bool) -> u32 {
        let access = self.access(offset, 4, DEVICE);
        let clocks = &mut self.clocks[who.0 as usize];
        let publish = clocks.publish(who.1, release, Scope::Device);
        let mut add = |old: u128| Some(old + 1);
        let view = clocks.view(who.1);
        let (old, loaded) = self.memory.atomic(&view, &access, publish, &mut add).unwrap();
        clocks.learn(who.1, acquire, Scope::Device, loaded.seen.as_ref());
        old as u32
    }

    fn fence(&mut self, who: Who, scope: Scope) {
        self.clocks[who.0 as usize].fence(who.1, scope);
    }

    fn barrier(&mut self, block: u32) {
        self.clocks[block as usize].barrier();
    }

    /// The site of an access by this thread, which was the last one.
    fn site(&self, who: Who) -> Site {
        Site { thread: who.0 * self.geometry.threads + who.1, pc: self.pc, asynchronous: false }
    }
}

/// The other site of a race, and whether it wrote.
fn race(result: Result<(), Fault>) -> (Site, bool) {
    match result {
        Err(Fault::Race { other, other_wrote, .. }) => (other, other_wrote),
        other => panic!("no race: {other:?}"),
    }
}
