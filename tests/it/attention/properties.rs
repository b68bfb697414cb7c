//! What holds whatever the sizes, the form and the numbers.

use proptest::prelude::*;
use warpwright::attention::Mask;
use warpwright::verify::Random;
use warpwright::verify::attention::{Case, Sizes, run_case};
use warpwright::{DType, f16};

use super::parts::in_blocks;
use super::{assert_close, ways};
use crate::devices::devices;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Any case is within the tolerances of the specification, on every device, in every type and
    /// with every variant.
    #[test]
    fn random_cases_pass(
        seed in 0u64..1_000_000,
        [queries, keys] in [0usize..70, 0usize..90],
        [width, value_width] in [1usize..70, 1usize..70],
        [kv_heads, group] in [1usize..3, 1usize..4],
    ) {
        let sizes =
            Sizes { batch: 1, heads: kv_heads * group, kv_heads, queries, keys, width, value_width };
        let case = Case::random(sizes, &mut Random::new(seed));
        for device in devices() {
            let mut complaints = Vec::new();
            run_case(device, &case, |report| complaints.extend(report.complaint()));
            prop_assert!(complaints.is_empty(), "{}", complaints.join("\n"));
        }
    }

    /// Keys cut anywhere, and merged again, are all keys.
    #[test]
    fn keys_may_be_cut_anywhere(
        seed in 0u64..1_000_000,
        [queries, keys] in [1usize..70, 2usize..200],
        cuts in [0.0..1.0f64, 0.0..1.0f64],
        is_causal: bool,
    ) {
        let sizes = Sizes { queries, keys, ..Sizes::square([1, 2, 1, 1, 40]) };
        let mask = if is_causal { Mask::causal() } else { Mask::default() };
        let case = Case { mask, seed, ..Case::new(sizes) };
        let named = case.tensors::<f16>().expect("tensors");
        let mut cuts = cuts.map(|cut| (cut * keys as f64) as usize);
        cuts.sort_unstable();
        for device in devices() {
            for options in ways::<f16>(device, &named, &case.options()) {
                let what = format!("cut at {cuts:?}, {options:?} on {}", device.name());
                let whole = in_blocks::<f16>(device, &named, &options, &[0, keys], None);
                let bounds = [0, cuts[0], cuts[1], keys];
                let merged = in_blocks::<f16>(device, &named, &options, &bounds, None);
                for (name, view) in &whole {
                    assert_close(DType::F16, name, &merged[name], view, &what);
                }
            }
        }
    }
}
