//! Rows whose entries nobody has counted before they are made.
//!
//! Threads take parts in their order. Each makes its part in memory of its own, small enough for
//! a cache; as soon as all parts before it are made, its place is known, and it is copied there.
//! So the product is written once, from front to back. Its arrays have room for all entries that
//! there may be: what is never written takes no memory.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::parts::{Made, Makers, PartMaker, Parts, split_off};
use crate::backend::cpu::pages::{Front, large};
use crate::sparse::{Offset, Value};

/// The rows of a product.
pub(super) struct Filled<T, O> {
    pub row_ptr: Vec<O>,
    pub col: Vec<u32>,
    pub val: Vec<T>,
    pub products: u64,
}

/// The entries of the product, counted without keeping any.
pub(super) fn count<T: Value, M: PartMaker<T>>(parts: &Parts, maker: impl Fn() -> M + Sync) -> u64 {
    let makers = Makers::new(maker);
    let entries = |rows: &Range<usize>| {
        let mut made = Made::new();
        makers.lend(|maker| maker.fill(rows.clone(), &mut made));
        made.entries() as u64
    };
    parts.rows().par_iter().map(entries).sum()
}

/// The rows of the product, which has at most so many entries.
pub(super) fn fill<T: Value, O: Offset, M: PartMaker<T>>(
    parts: &Parts,
    maker: impl Fn() -> M + Sync,
    most: usize,
) -> Filled<T, O> {
    let mut row_ptr = large(vec![O::saturating(0); parts.len() + 1]);
    let (mut col, mut val) = (vec![0; most], vec![T::ZERO; most]);
    let rows = parts.rows();
    let fronts = (Front::of(&col), Front::of(&val));
    let rest = Room { ends: &mut row_ptr[1..], col: &mut col, val: &mut val };
    let product = Product::new(rows.len(), rest, fronts);
    let next = AtomicUsize::new(0);
    rayon::scope(|scope| {
        for _ in 0..rayon::current_num_threads().min(rows.len()) {
            scope.spawn(|_| {
                let mut maker = maker();
                loop {
                    let part = next.fetch_add(1, Ordering::Relaxed);
                    let Some(rows) = rows.get(part) else { return };
                    let mut made = product.idle();
                    made.clear();
                    maker.fill(rows.clone(), &mut made);
                    product.place(part, made);
                }
            });
        }
    });
    let (entries, products) = product.end();
    col.truncate(entries);
    val.truncate(entries);
    col.shrink_to_fit();
    val.shrink_to_fit();
    Filled { row_ptr, col, val, products }
}

/// Places for rows.
struct Room<'a, T, O> {
    /// Row pointers, where rows end.
    ends: &'a mut [O],
    col: &'a mut [u32],
    val: &'a mut [T],
}

impl<'a, T: Value, O: Offset> Room<'a, T, O> {
    /// The places of the first of these rows, which are taken from here.
    fn take(&mut self, made: &Made<T>) -> Self {
        Self {
            ends: split_off(&mut self.ends, made.ends.len()),
            col: split_off(&mut self.col, made.entries()),
            val: split_off(&mut self.val, made.entries()),
        }
    }

    /// Copies rows that have so many entries before them.
    fn copy(self, made: &Made<T>, before: usize) {
        for (end, made) in self.ends.iter_mut().zip(&made.ends) {
            *end = O::saturating(before + made);
        }
        self.col.copy_from_slice(&made.col[..made.entries()]);
        self.val.copy_from_slice(&made.val[..made.entries()]);
    }
}

/// The product while it grows.
struct Product<'a, T, O> {
    growing: Mutex<Growing<'a, T, O>>,
    /// Of its columns and of its values.
    fronts: (Front, Front),
}

struct Growing<'a, T, O> {
    /// Parts that wait for others before them.
    waiting: Vec<Option<Made<T>>>,
    /// The first part that has no place yet.
    next: usize,
    /// Entries of the parts before it.
    entries: usize,
    /// Products of the parts before it.
    products: u64,
    rest: Room<'a, T, O>,
    idle: Vec<Made<T>>,
}

impl<'a, T: Value, O: Offset> Product<'a, T, O> {
    fn new(parts: usize, rest: Room<'a, T, O>, fronts: (Front, Front)) -> Self {
        let waiting = std::iter::repeat_with(|| None).take(parts).collect();
        let growing = Growing { waiting, next: 0, entries: 0, products: 0, rest, idle: Vec::new() };
        Self { growing: Mutex::new(growing), fronts }
    }

    /// Memory for a part.
    fn idle(&self) -> Made<T> {
        self.growing().idle.pop().unwrap_or_else(Made::new)
    }

    /// Takes a part, and copies those which now have places.
    fn place(&self, part: usize, made: Made<T>) {
        let mut placed = Vec::new();
        {
            let mut growing = self.growing();
            growing.waiting[part] = Some(made);
            placed.extend(std::iter::from_fn(|| growing.advance()));
        }
        for (made, before, room) in placed {
            let end = before + made.entries();
            self.fronts.0.reach(size_of::<u32>() * end);
            self.fronts.1.reach(size_of::<T>() * end);
            room.copy(&made, before);
            self.growing().idle.push(made);
        }
    }

    /// The entries and the products of all parts.
    fn end(&self) -> (usize, u64) {
        let growing = self.growing();
        (growing.entries, growing.products)
    }

    fn growing(&self) -> MutexGuard<'_, Growing<'a, T, O>> {
        self.growing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a, T: Value, O: Offset> Growing<'a, T, O> {
    /// The next part if it is made, the entries before it, and its room.
    fn advance(&mut self) -> Option<(Made<T>, usize, Room<'a, T, O>)> {
        let made = self.waiting.get_mut(self.next)?.take()?;
        let (before, room) = (self.entries, self.rest.take(&made));
        self.next += 1;
        self.entries += made.entries();
        self.products += made.products;
        Some((made, before, room))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sparse::Rows;

    /// Rows of 0 to 4 entries; some take long, so that later parts are made first.
    struct Slow;

    impl PartMaker<f64> for Slow {
        fn fill(&mut self, rows: Range<usize>, made: &mut Made<f64>) {
            for row in rows {
                let (col, val) = made.room(6);
                if row.is_multiple_of(130) {
                    std::thread::sleep(Duration::from_millis(3));
                }
                for i in 0..row % 5 {
                    (col[i], val[i]) = (i as u32, row as f64);
                }
                made.end_row(row % 5);
                made.products += 7;
            }
        }

        fn write(&mut self, _: Range<usize>, _: Rows<'_, u32>, _: &mut [f64]) {}
    }

    #[test]
    fn parts_come_to_their_places_whoever_is_first() {
        const ROWS: usize = 2000;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().expect("threads");
        let (parts, filled, counted) = pool.install(|| {
            let parts = Parts::new(ROWS, |_| 1, u64::MAX);
            let filled: Filled<f64, u32> = fill(&parts, || Slow, 6 * ROWS);
            let counted = count(&parts, || Slow);
            (parts.rows().len(), filled, counted)
        });
        assert!(parts > 8, "{parts} parts");
        let rows = || (0..ROWS).flat_map(|row| (0..row % 5).map(move |i| (i as u32, row as f64)));
        assert_eq!(filled.col, rows().map(|(col, _)| col).collect::<Vec<_>>());
        assert_eq!(filled.val, rows().map(|(_, val)| val).collect::<Vec<_>>());
        let ends = filled.row_ptr.windows(2).map(|ends| ends[1] - ends[0]);
        assert!(ends.eq((0..ROWS).map(|row| row as u32 % 5)));
        assert_eq!((filled.products, counted), (7 * ROWS as u64, filled.col.len() as u64));
    }

    #[test]
    fn no_rows_make_an_empty_product() {
        let parts = Parts::new(0, |_| 1, u64::MAX);
        let filled: Filled<f64, u32> = fill(&parts, || Slow, 0);
        assert_eq!((filled.row_ptr, filled.col, filled.products), (vec![0], vec![], 0));
    }
}
