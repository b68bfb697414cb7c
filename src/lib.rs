//! Hand-written GPU kernels for the operations that stock libraries do badly: recurrences,
//! scans, rings, sparse products and compressed matrices. Each kernel exists as CUDA PTX and as
//! WGSL, is wrapped in a safe launcher, and is checked against a plain CPU reference in f64.
//!
//! * [`selective_scan`]: the recurrence of Mamba, forward and backward, and its update, a few steps
//!   on states in slots.
//! * [`causal_conv1d`]: the depthwise convolution in front of it, forward, backward and update.
//! * [`scan_attention`]: attention with fixed queries as a recurrence (Aaren), forward, backward
//!   and step by step.
//! * [`attention`]: blocks of softmax attention whose results merge and whose gradients add up,
//!   forward and backward: what rings are made of.
//! * [`cross_entropy`]: the loss over a vocabulary that may be cut among ranks, of logits or of the
//!   linear layer in front of them, forward and backward.
//! * [`ring`]: attention over sequences that are cut among ranks, by schedules that are data, over
//!   the engines of [`collective`].
//! * [`rnn`]: recurrent cells with head-wise matrices (Elman, LSTM, GRU, sLSTM), forward, backward
//!   and step by step, and weights of other libraries.
//! * [`group_sparse`]: linear layers whose weights are kept in groups and quantized (GQSA,
//!   EasyQuant): compression, files, products, and decoding.
//! * [`spgemm`]: products of [`sparse`] matrices over semirings, with masks and plans, and the
//!   triangles of graphs.
//!
//! A call goes one way: the user's tensors → checks of shapes, types and options → a plan, which
//! is a pure function → a launch on the device → outputs. [`Tensor`] is a typed, shaped view of a
//! buffer on a [`Backend`](backend::Backend): [`Cpu`],
#![cfg_attr(feature = "wgpu", doc = "[`Wgpu`](backend::wgpu::Wgpu),")]
#![cfg_attr(feature = "cuda", doc = "[`Cuda`](backend::cuda::Cuda).")]
//! Those who choose at run time use [`Device`] and [`AnyTensor`], and [`operation`].
//!
//! No toolkit is needed to build: PTX text is embedded and assembled by the driver, which is
//! looked for at run time; WGSL goes through wgpu; where there is no GPU the CPU backend runs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod attention;
pub mod backend;
pub mod causal_conv1d;
mod check;
pub mod collective;
pub mod cross_entropy;
#[cfg(test)]
mod damage;
mod element;
mod error;
pub mod group_sparse;
mod layout;
mod list;
mod named;
pub mod operation;
mod parameter;
mod plan;
mod resets;
pub mod ring;
pub mod rnn;
pub mod scan_attention;
pub mod selective_scan;
mod shape;
pub mod sparse;
pub mod spgemm;
mod tensor;
mod variant;
#[cfg(feature = "verify")]
#[cfg_attr(docsrs, doc(cfg(feature = "verify")))]
pub mod verify;

pub use backend::{AnyTensor, Cpu, Device, DeviceName, Named};
#[cfg(feature = "cuda")]
#[cfg_attr(docsrs, doc(cfg(feature = "cuda")))]
pub use cudarc;
pub use element::{DType, DeviceFloat, Element, Float, Index};
pub use error::{Error, ErrorKind, Result};
pub use half::{bf16, f16};
pub use layout::Layout;
pub use list::{Listed, list};
pub use parameter::{Indices, Parameter};
pub use plan::{Plan, Schedule};
pub use resets::Resets;
pub use shape::{MAX_RANK, Shape, Strides};
pub use tensor::{Tensor, View};
#[cfg(feature = "interpreter")]
#[cfg_attr(docsrs, doc(cfg(feature = "interpreter")))]
pub use warpwright_ptx as ptx;
#[cfg(feature = "wgpu")]
#[cfg_attr(docsrs, doc(cfg(feature = "wgpu")))]
pub use wgpu;

/// The README's examples are tests as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
