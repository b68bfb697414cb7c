//! How a matrix is to be compressed.

use std::fmt;

use crate::Result;
use crate::element::DType;
use crate::group_sparse::format::{BITS, GROUPS, Mode, ScaleScope, wrong_option};

/// An enum of choices, each with the name that texts give it.
macro_rules! choices {
    ($(
        $(#[$doc:meta])*
        $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub enum $type { $($(#[$variant_doc])* $variant,)* }

            impl $type {
                /// All of them.
                pub const ALL: &[Self] = &[$(Self::$variant),*];

                /// As texts name it.
                pub const fn name(self) -> &'static str {
                    match self { $(Self::$variant => $name,)* }
                }
            }

            impl fmt::Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad(self.name())
                }
            }
        )*
    };
}

choices! {
    /// What the worth of a group is, the sum over its elements; of two groups the one with more is
    /// kept.
    Saliency {
        /// `hdiag` with a calibration, `magnitude` without.
        #[default]
        Auto = "auto",
        /// w_k².
        Magnitude = "magnitude",
        /// h_k w_k², with h_k the mean of x_k².
        Hdiag = "hdiag",
    }

    /// What is taken together: for the selection, groups that compete; for outliers, elements that
    /// share a mean and a deviation.
    Scope {
        /// The whole matrix.
        #[default]
        Tensor = "tensor",
        /// Each row for itself.
        Row = "row",
    }

    /// How the scale of a group is found.
    Range {
        /// The codes span the values.
        Rtn = "rtn",
        /// The least error among 64 narrower spans, then least squares in turn with rounding.
        #[default]
        Search = "search",
        /// 300 steps of Adam on the scale, as EasyQuant does it; for a scale per row.
        Adam = "adam",
    }

    /// What to do where f16 does not hold a scale, an offset or an outlier.
    Promote {
        /// Store them all in f32.
        #[default]
        Auto = "auto",
        /// Fail.
        Deny = "deny",
    }

    /// How the kept groups are to be stored.
    Store {
        /// `dense` where no group may be pruned, `uniform` for the scope `row`, else `free`.
        #[default]
        Auto = "auto",
        /// As `free` whatever was chosen.
        Free = "free",
        /// As `dense`; nothing is pruned.
        Dense = "dense",
    }
}

/// Which groups are to be kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// All but this fraction of them, in [0, 1).
    Sparsity(f64),
    /// Those that are marked; (N, ⌈K/G⌉), row by row.
    Mask(Vec<bool>),
}

/// Which elements are stored apart, exactly: those at least n standard deviations from the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierRule {
    /// n, above 0.
    pub n_sigma: f64,
    /// The largest fraction of the matrix, in \[0, 1\]; beyond it the farthest from the mean are
    /// taken.
    pub max_fraction: f64,
    /// What the mean and the deviation are of.
    pub scope: Scope,
}

impl Default for OutlierRule {
    fn default() -> Self {
        Self { n_sigma: 3.0, max_fraction: 0.01, scope: Scope::Tensor }
    }
}

/// How a matrix is to be compressed. Made by `default` and the `with_…` methods.
///
/// ```
/// use warpwright::group_sparse::compress::Options;
///
/// let options = Options::default().with_bits(4).with_group(16).with_sparsity(0.5);
/// options.check()?;
/// assert!(Options::default().with_bits(5).check().is_err());
/// # Ok::<(), warpwright::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// b, the bits of a code: 2, 3, 4 or 8.
    pub bits: u32,
    /// G, the columns of a group: 8, 16, 32, 64 or 128.
    pub group: usize,
    /// How a code becomes a number.
    pub mode: Mode,
    /// Which groups are to be kept.
    pub target: Target,
    /// What the worth of a group is.
    pub saliency: Saliency,
    /// Whether the worth is divided by the count of elements, so that it is their mean.
    pub normalize_mean: bool,
    /// Which groups compete.
    pub scope: Scope,
    /// The fraction of its groups that each row keeps whatever they are worth beside those of
    /// other rows, in \[0, 1\], where the target leaves as many for each row; of scope `tensor`.
    pub min_row_fraction: f64,
    /// Q, what the count of a row's kept groups is a multiple of: 1, 2, 4, 8 or 16.
    pub row_quantum: usize,
    /// How the scale of a group is found.
    pub range: Range,
    /// Whether the mode `sym` leaves code 0 unused, so that scales are positive.
    pub sym_restricted: bool,
    /// What has a scale of its own.
    pub scale_scope: ScaleScope,
    /// The type of scales and offsets, f16, bf16 or f32; without it that of the weights.
    pub scale_dtype: Option<DType>,
    /// What to do where f16 does not hold them.
    pub scale_promote: Promote,
    /// Which elements are stored apart.
    pub outliers: Option<OutlierRule>,
    /// Whether kept weights are refitted to make up for pruned ones, before they are quantized;
    /// it needs a calibration with H.
    pub refit_weights: bool,
    /// How the kept groups are to be stored.
    pub pattern: Store,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bits: 4,
            group: 16,
            mode: Mode::Sym,
            target: Target::Sparsity(0.0),
            saliency: Saliency::Auto,
            normalize_mean: false,
            scope: Scope::Tensor,
            min_row_fraction: 0.25,
            row_quantum: 1,
            range: Range::Search,
            sym_restricted: false,
            scale_scope: ScaleScope::Group,
            scale_dtype: None,
            scale_promote: Promote::Auto,
            outliers: None,
            refit_weights: false,
            pattern: Store::Auto,
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($field:ident: $type:ty);)*) => {
        impl Options {
            $($(#[$doc])*
            pub fn $name(mut self, $field: $type) -> Self {
                self.$field = $field;
                self
            })*
        }
    };
}

setters! {
    /// With codes of so many bits.
    with_bits(bits: u32);
    /// With groups of so many columns.
    with_group(group: usize);
    /// With numbers made of codes in this way.
    with_mode(mode: Mode);
    /// With this worth of a group.
    with_saliency(saliency: Saliency);
    /// With the mean over a group's elements as its worth, not the sum.
    with_normalize_mean(normalize_mean: bool);
    /// With groups that compete within this scope.
    with_scope(scope: Scope);
    /// With at least this fraction of each row's groups.
    with_min_row_fraction(min_row_fraction: f64);
    /// With counts of kept groups that are multiples of this.
    with_row_quantum(row_quantum: usize);
    /// With scales that are found in this way.
    with_range(range: Range);
    /// With code 0 unused in the mode `sym`.
    with_sym_restricted(sym_restricted: bool);
    /// With a scale for each of these.
    with_scale_scope(scale_scope: ScaleScope);
    /// With this done where f16 does not hold a number.
    with_scale_promote(scale_promote: Promote);
    /// With kept weights refitted to make up for pruned ones.
    with_refit_weights(refit_weights: bool);
    /// With kept groups stored in this way.
    with_pattern(pattern: Store);
}

impl Options {
    /// With this fraction of the groups pruned.
    pub fn with_sparsity(mut self, sparsity: f64) -> Self {
        self.target = Target::Sparsity(sparsity);
        self
    }

    /// With the marked groups kept; (N, ⌈K/G⌉), row by row.
    pub fn with_mask(mut self, mask: Vec<bool>) -> Self {
        self.target = Target::Mask(mask);
        self
    }

    /// With scales and offsets of this type.
    pub fn with_scale_dtype(mut self, dtype: DType) -> Self {
        self.scale_dtype = Some(dtype);
        self
    }

    /// With these elements stored apart.
    pub fn with_outliers(mut self, rule: OutlierRule) -> Self {
        self.outliers = Some(rule);
        self
    }

    /// The options make sense, each for itself and together.
    ///
    /// # Errors
    ///
    /// [`Error::Option`](crate::Error::Option) with the first that does not.
    pub fn check(&self) -> Result<()> {
        if !BITS.contains(&self.bits) {
            return Err(wrong_option("bits", "2, 3, 4 or 8", self.bits));
        }
        if !GROUPS.contains(&self.group) {
            return Err(wrong_option("group", "8, 16, 32, 64 or 128", self.group));
        }
        if ![1, 2, 4, 8, 16].contains(&self.row_quantum) {
            return Err(wrong_option("row_quantum", "1, 2, 4, 8 or 16", self.row_quantum));
        }
        fraction("min_row_fraction", self.min_row_fraction)?;
        if let Some(rule) = self.outliers {
            if !(rule.n_sigma > 0.0 && rule.n_sigma.is_finite()) {
                return Err(wrong_option("n_sigma", "a positive number", rule.n_sigma));
            }
            fraction("max_fraction", rule.max_fraction)?;
        }
        if let Some(dtype) = self.scale_dtype.filter(|dtype| !STORED.contains(dtype)) {
            return Err(wrong_option("scale_dtype", "auto, f16, bf16 or f32", dtype));
        }
        self.check_range()?;
        self.check_target()
    }

    fn check_range(&self) -> Result<()> {
        if self.sym_restricted && self.mode != Mode::Sym {
            return Err(wrong_option("sym_restricted", "false, but for the mode sym", "true"));
        }
        let is_parity = self.scale_scope == ScaleScope::Row && self.mode == Mode::Sym;
        if self.range == Range::Adam && !is_parity {
            let expected = "rtn or search, but for scale_scope row and mode sym";
            return Err(wrong_option("range", expected, self.range));
        }
        Ok(())
    }

    fn check_target(&self) -> Result<()> {
        match self.target {
            Target::Sparsity(sparsity) if !(0.0..1.0).contains(&sparsity) => {
                Err(wrong_option("sparsity", "a number from 0 to below 1", sparsity))
            }
            Target::Sparsity(sparsity) if self.pattern == Store::Dense && sparsity > 0.0 => {
                Err(wrong_option("sparsity", "0 for the pattern dense", sparsity))
            }
            Target::Mask(_) if self.row_quantum != 1 => {
                Err(wrong_option("row_quantum", "1 with a mask", self.row_quantum))
            }
            Target::Sparsity(_) | Target::Mask(_) => Ok(()),
        }
    }
}

/// Types that scales, offsets and outliers are stored in.
const STORED: [DType; 3] = [DType::F16, DType::BF16, DType::F32];

fn fraction(option: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(wrong_option(option, "a number from 0 to 1", value))
}
