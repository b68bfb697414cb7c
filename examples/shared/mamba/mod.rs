//! One Mamba block between an embedding and a projection onto symbols or classes.
//!
//! ```text
//! e = embedding[symbol]                       n = norm(e)
//! x = n · to_x                                z = n · to_gate
//! u = silu(causal_conv1d(x))                                         kernel
//! B = u · to_b,  C = u · to_c,  delta = u · to_low · low_to_delta
//! y = selective_scan(u, delta, A, B, C, skip, z)                     kernel
//! o = e + y · from_y                          score = norm(o) · to_classes
//! ```
//!
//! Rows are (batch entry, step): what a projection gives is what the kernels read in the layout
//! (B, L, D). The kernels run on a device, the dense products on the CPU.

use warpwright::backend::Backend;
use warpwright::causal_conv1d::{self, Activation, CausalConv1d};
use warpwright::selective_scan::{self, Layout, SelectiveScan};
use warpwright::{Result, Tensor};

use super::Model;
use super::batch::Batch;
use super::dense::{cross_entropy, normalise, normalise_back, project, project_back};
use super::parameters::Learnt;

pub use parameters::{Parameters, Sizes};

mod parameters;

/// The model, whose kernels run on a device.
pub struct Mamba<'a, B> {
    pub device: &'a B,
    pub sizes: Sizes,
    pub parameters: Parameters,
}

/// What the backward pass needs of the forward pass, on the CPU: rows of numbers.
struct Trace {
    embedded: Vec<f32>,
    normalised: Vec<f32>,
    x: Vec<f32>,
    gate: Vec<f32>,
    u: Vec<f32>,
    low: Vec<f32>,
    delta: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    y: Vec<f32>,
    out: Vec<f32>,
    last: Vec<f32>,
}

/// How the convolution is done.
pub fn conv_options() -> causal_conv1d::Options {
    causal_conv1d::Options::default().with_layout(Layout::Bld).with_activation(Activation::Silu)
}

/// How the scan is done; training saves states.
fn scan_options(save: bool) -> selective_scan::Options {
    selective_scan::Options::default()
        .with_layout(Layout::Bld)
        .with_delta_softplus(true)
        .with_save(save)
}

impl<B: SelectiveScan<f32> + CausalConv1d<f32>> Model for Mamba<'_, B> {
    type Parameters = Parameters;

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn scores(&self, read: &[usize], rows: usize) -> Result<Vec<f32>> {
        let (trace, _) = self.forward(read, rows, false)?;
        Ok(self.score(&trace.last))
    }

    fn gradients(&self, batch: &Batch) -> Result<(f64, Parameters)> {
        let (trace, saved) = self.forward(&batch.read, batch.rows, true)?;
        let mut dscores = self.score(&trace.last);
        let loss = cross_entropy(&mut dscores, &batch.wanted);
        let gradients = self.backward(batch, &trace, saved.as_ref(), &dscores)?;
        Ok((loss, gradients))
    }
}

impl<B: SelectiveScan<f32> + CausalConv1d<f32>> Mamba<'_, B> {
    fn score(&self, last: &[f32]) -> Vec<f32> {
        project(last, &self.parameters.to_classes, self.sizes.width)
    }

    /// Up to the norm behind the block, and the states that the scan saved.
    fn forward(
        &self,
        read: &[usize],
        rows: usize,
        save: bool,
    ) -> Result<(Trace, Option<Tensor<B, f32>>)> {
        let &Self { device, sizes, ref parameters } = self;
        let Sizes { width, channels, rank, .. } = sizes;
        let embedded = embed(&parameters.embedding, width, read);
        let normalised = normalise(&embedded, &parameters.scale_in);
        let x = project(&normalised, &parameters.to_x, width);
        let gate = project(&normalised, &parameters.to_gate, width);

        let tensors = Tensors::new(device, sizes, parameters, rows)?;
        let on_device = tensors.rows(device, &x)?;
        let convolved = causal_conv1d::forward(&tensors.convolution(&on_device), &conv_options())?;
        let u = convolved.out.to_vec()?;
        let low = project(&u, &parameters.to_low, channels);
        let delta = project(&low, &parameters.low_to_delta, rank);
        let b = project(&u, &parameters.to_b, channels);
        let c = project(&u, &parameters.to_c, channels);

        let scanned = Scanned {
            u: convolved.out,
            delta: tensors.rows(device, &delta)?,
            b: tensors.maps(device, &b)?,
            c: tensors.maps(device, &c)?,
            gate: tensors.rows(device, &gate)?,
        };
        let scan = selective_scan::forward(&tensors.scan(&scanned), &scan_options(save))?;
        let y = scan.out.to_vec()?;
        let mut out = project(&y, &parameters.from_y, channels);
        out.iter_mut().zip(&embedded).for_each(|(out, embedded)| *out += embedded);
        let last = normalise(&out, &parameters.scale_out);
        let trace = Trace { embedded, normalised, x, gate, u, low, delta, b, c, y, out, last };
        Ok((trace, scan.saved))
    }

    fn backward(
        &self,
        batch: &Batch,
        trace: &Trace,
        saved: Option<&Tensor<B, f32>>,
        dscores: &[f32],
    ) -> Result<Parameters> {
        let &Self { sizes, ref parameters, .. } = self;
        let Sizes { width, channels, .. } = sizes;
        let mut gradients = parameters.zeros();
        let dlast = project_back(
            &trace.last,
            &parameters.to_classes,
            width,
            dscores,
            &mut gradients.to_classes,
        );
        let mut dout = vec![0.0; trace.out.len()];
        normalise_back(
            &trace.out,
            &parameters.scale_out,
            &dlast,
            &mut gradients.scale_out,
            &mut dout,
        );
        let dy = project_back(&trace.y, &parameters.from_y, channels, &dout, &mut gradients.from_y);
        let [dx, dgate] = self.block_backward(batch.rows, trace, saved, &dy, &mut gradients)?;

        let n = &trace.normalised;
        let mut dn = project_back(n, &parameters.to_x, width, &dx, &mut gradients.to_x);
        let more = project_back(n, &parameters.to_gate, width, &dgate, &mut gradients.to_gate);
        add(&mut dn, &more);
        // The block's input also passes by it.
        let mut dembedded = dout;
        normalise_back(
            &trace.embedded,
            &parameters.scale_in,
            &dn,
            &mut gradients.scale_in,
            &mut dembedded,
        );
        for (&symbol, row) in batch.read.iter().zip(dembedded.chunks_exact(width)) {
            add(&mut gradients.embedding[symbol * width..][..width], row);
        }
        Ok(gradients)
    }

    /// Through the scan and the convolution: the gradients of x and of the gate.
    fn block_backward(
        &self,
        rows: usize,
        trace: &Trace,
        saved: Option<&Tensor<B, f32>>,
        dy: &[f32],
        gradients: &mut Parameters,
    ) -> Result<[Vec<f32>; 2]> {
        let &Self { device, sizes, ref parameters } = self;
        let Sizes { channels, rank, .. } = sizes;
        let tensors = Tensors::new(device, sizes, parameters, rows)?;
        let scanned = Scanned {
            u: tensors.rows(device, &trace.u)?,
            delta: tensors.rows(device, &trace.delta)?,
            b: tensors.maps(device, &trace.b)?,
            c: tensors.maps(device, &trace.c)?,
            gate: tensors.rows(device, &trace.gate)?,
        };
        let dy = tensors.rows(device, dy)?;
        let saved = saved.expect("training saves states");
        let scan = selective_scan::backward(
            &tensors.scan(&scanned),
            &scan_options(true),
            saved,
            &selective_scan::OutputGradients::new(&dy),
        )?;
        // A = -exp(log_decay) is its own derivative.
        let decays = tensors.a.to_vec()?.into_iter().zip(scan.da.to_vec()?);
        gradients.log_decay = decays.map(|(a, da)| a * da).collect();
        gradients.skip = present(scan.dd.as_ref())?;
        gradients.delta_bias = present(scan.ddelta_bias.as_ref())?;

        let mut du = scan.du.to_vec()?;
        let dlow = project_back(
            &trace.low,
            &parameters.low_to_delta,
            rank,
            &scan.ddelta.to_vec()?,
            &mut gradients.low_to_delta,
        );
        let (db, dc) = (scan.db.typed::<f32>()?.to_vec()?, scan.dc.typed::<f32>()?.to_vec()?);
        for (weight, dweight, dy) in [
            (&parameters.to_low, &mut gradients.to_low, &dlow),
            (&parameters.to_b, &mut gradients.to_b, &db),
            (&parameters.to_c, &mut gradients.to_c, &dc),
        ] {
            add(&mut du, &project_back(&trace.u, weight, channels, dy, dweight));
        }

        let x = tensors.rows(device, &trace.x)?;
        let du = tensors.rows(device, &du)?;
        let conv = causal_conv1d::backward(
            &tensors.convolution(&x),
            &causal_conv1d::OutputGradients::new(&du),
            &conv_options(),
        )?;
        gradients.conv_weight = conv.dweight.to_vec()?;
        gradients.conv_bias = present(conv.dbias.as_ref())?;
        Ok([conv.dx.to_vec()?, present(scan.dz.as_ref())?])
    }
}

/// The kernels' parameters on the device, and the sizes of a batch there.
pub struct Tensors<B: Backend> {
    sizes: Sizes,
    batch: usize,
    pub conv_weight: Tensor<B, f32>,
    pub conv_bias: Tensor<B, f32>,
    pub a: Tensor<B, f32>,
    pub skip: Tensor<B, f32>,
    pub delta_bias: Tensor<B, f32>,
}

/// The activations that a scan reads.
struct Scanned<B: Backend> {
    u: Tensor<B, f32>,
    delta: Tensor<B, f32>,
    b: Tensor<B, f32>,
    c: Tensor<B, f32>,
    gate: Tensor<B, f32>,
}

impl<B: Backend> Tensors<B> {
    pub fn new(device: &B, sizes: Sizes, parameters: &Parameters, batch: usize) -> Result<Self> {
        let Sizes { channels, states, taps, .. } = sizes;
        let per_channel = |values: &[f32]| Tensor::from_slice(device, values, &[channels]);
        Ok(Self {
            sizes,
            batch,
            conv_weight: Tensor::from_slice(device, &parameters.conv_weight, &[channels, taps])?,
            conv_bias: per_channel(&parameters.conv_bias)?,
            a: Tensor::from_slice(device, &parameters.decays(), &[channels, states])?,
            skip: per_channel(&parameters.skip)?,
            delta_bias: per_channel(&parameters.delta_bias)?,
        })
    }

    /// (B, L, D)
    fn rows(&self, device: &B, values: &[f32]) -> Result<Tensor<B, f32>> {
        let steps = values.len() / self.sizes.channels / self.batch;
        Tensor::from_slice(device, values, &[self.batch, steps, self.sizes.channels])
    }

    /// (B, L, 1, N)
    fn maps(&self, device: &B, values: &[f32]) -> Result<Tensor<B, f32>> {
        let steps = values.len() / self.sizes.states / self.batch;
        Tensor::from_slice(device, values, &[self.batch, steps, 1, self.sizes.states])
    }

    fn convolution<'a>(&'a self, x: &'a Tensor<B, f32>) -> causal_conv1d::Inputs<'a, B, f32> {
        causal_conv1d::Inputs::new(x, &self.conv_weight).with_bias(&self.conv_bias)
    }

    fn scan<'a>(&'a self, read: &'a Scanned<B>) -> selective_scan::Inputs<'a, B, f32> {
        selective_scan::Inputs::new(&read.u, &read.delta, &self.a, &read.b, &read.c)
            .with_d(&self.skip)
            .with_z(&read.gate)
            .with_delta_bias(&self.delta_bias)
    }
}

/// The rows of the embedding that stand for these symbols.
pub fn embed(embedding: &[f32], width: usize, read: &[usize]) -> Vec<f32> {
    read.iter().flat_map(|&symbol| &embedding[symbol * width..][..width]).copied().collect()
}

fn add(sum: &mut [f32], more: &[f32]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// The numbers of a gradient whose input was there.
fn present<B: Backend>(gradient: Option<&Tensor<B, f32>>) -> Result<Vec<f32>> {
    gradient.expect("its input is there").to_vec()
}
