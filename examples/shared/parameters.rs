//! What a model learns.

use fastrand::Rng;
use warpwright::Float;

/// Tensors of numbers that learning moves, or their gradients.
pub trait Learnt {
    /// f32, or f64 where a test looks closely.
    type Number: Float;

    fn tensors(&self) -> Vec<&Vec<Self::Number>>;

    fn tensors_mut(&mut self) -> Vec<&mut Vec<Self::Number>>;

    /// As many zeros.
    fn zeros(&self) -> Self;
}

/// The tensors of a model under their names; matrices row by row.
macro_rules! parameters {
    ($(#[$about:meta])* $model:ident: $($(#[$what:meta])* $name:ident,)*) => {
        $(#[$about])*
        pub struct $model<T = f32> {
            $($(#[$what])* pub $name: Vec<T>,)*
        }

        impl<T: warpwright::Float> $crate::shared::parameters::Learnt for $model<T> {
            type Number = T;

            fn tensors(&self) -> Vec<&Vec<T>> {
                vec![$(&self.$name),*]
            }

            fn tensors_mut(&mut self) -> Vec<&mut Vec<T>> {
                vec![$(&mut self.$name),*]
            }

            fn zeros(&self) -> Self {
                Self { $($name: vec![T::from_f32(0.0); self.$name.len()]),* }
            }
        }
    };
}

pub(crate) use parameters;

/// A matrix of small numbers: uniform with the variance of 1 / inner, so that what it makes of
/// numbers of size 1 has size 1.
pub fn random_matrix<T: Float>(inner: usize, outer: usize, random: &mut Rng) -> Vec<T> {
    let largest = (3.0 / inner as f32).sqrt();
    (0..inner * outer).map(|_| T::from_f32(largest * (2.0 * random.f32() - 1.0))).collect()
}
