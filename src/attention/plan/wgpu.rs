//! WebGPU devices, as plans see them: which kernels their features allow, the best first.

use super::walk::{Target, rows};
use crate::attention::kernels::WalkWgsl;
use crate::backend::Limits;
use crate::backend::kernel::VariantInfo;

/// Workgroups that fill a hardware device: WebGPU does not tell how many units there are, so this
/// is what a large one needs, 132 units of 4.
const FULL: usize = 132 * 4;

/// Workgroups that keep a core of a software device busy.
const FULL_PER_CORE: usize = 2;

/// The device of this name.
pub(in crate::attention) fn target(name: String, limits: &Limits) -> Target {
    let cores = limits.units as usize;
    let mut kernels: Vec<_> = WalkWgsl::VARIANTS.iter().map(|one| one.info).collect();
    kernels.retain(|info| runs(info, limits));
    if cores == 0 {
        kernels.sort_by_key(|info| preference(info));
    }
    Target {
        name,
        kernels,
        full: if cores == 0 { FULL } else { cores * FULL_PER_CORE },
        units: cores,
        shared: limits.shared_bytes,
    }
}

/// Whether a device has what a kernel uses.
pub(in crate::attention) fn runs(info: &VariantInfo, limits: &Limits) -> bool {
    info.capabilities.iter().all(|&capability| match capability {
        "SHADER_FLOAT16" => limits.native_f16,
        "SUBGROUP" => limits.subgroups.is_some_and(|sizes| subgroups_hold_rows(info, sizes)),
        _ => false,
    })
}

/// Whether the invocations of a row lie in one subgroup, whichever size between the smallest and
/// the largest it has, and all subgroups of a workgroup are full. Sizes are powers of two.
fn subgroups_hold_rows(info: &VariantInfo, (smallest, largest): (u32, u32)) -> bool {
    let invocations = info.block[0];
    let of_row = invocations / rows(info) as u32;
    smallest >= of_row && largest >= smallest && invocations.is_multiple_of(largest)
}

/// On hardware, f16 halves the memory that bounds the walk, and subgroups save a barrier; in
/// software, f16 is widened by instructions, and barriers wait for nobody.
fn preference(info: &VariantInfo) -> u32 {
    match info.capabilities {
        ["SHADER_FLOAT16"] => 0,
        ["SUBGROUP"] => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::plan::{Pass, walk, walk_variants};
    use crate::attention::{Options, Problem};
    use crate::element::DType;

    const OF_ANY: &str = "attention_forward_out_wgsl_f16_d128";
    const NATIVE: &str = "attention_forward_out_wgsl_f16_native_d128";
    const SUBGROUP: &str = "attention_forward_out_wgsl_f16_subgroup_d128";

    fn device(native_f16: bool, subgroups: Option<(u32, u32)>, cores: u32) -> Target {
        let limits = Limits { native_f16, subgroups, ..Limits::of_webgpu(cores) };
        target("wgpu".to_owned(), &limits)
    }

    fn problem(dtype: DType, width: usize) -> Problem {
        Problem::new(dtype, [2, 8, 2, 512, 512, width, width], &Options::default()).unwrap()
    }

    fn planned(target: &Target, dtype: DType, width: usize) -> [&'static str; 2] {
        let problem = problem(dtype, width);
        [Pass::Forward, Pass::Backward]
            .map(|pass| walk(target, pass, &problem, &Options::default()).unwrap().variant)
    }

    fn offered(target: &Target, pass: Pass, dtype: DType, width: usize) -> Vec<&'static str> {
        walk_variants(target, pass, &problem(dtype, width), &Options::default()).unwrap()
    }

    #[test]
    fn the_baseline_has_the_kernels_that_need_no_features() {
        let target = device(false, None, 0);
        assert!(target.kernels.iter().all(|info| info.capabilities.is_empty()));
        let backward = "attention_backward_dq_wgsl_f16_d128";
        assert_eq!(planned(&target, DType::F16, 64), [OF_ANY, backward]);
        let wide = "attention_forward_out_wgsl_f16_d512";
        assert_eq!(offered(&target, Pass::Forward, DType::F16, 64), [OF_ANY, wide]);
    }

    /// f16 as it is where there is f16, else subgroups; backward there are no rows to agree on.
    #[test]
    fn hardware_prefers_its_features() {
        let both = device(true, Some((32, 32)), 0);
        let backward = "attention_backward_dq_wgsl_f16_native_d128";
        assert_eq!(planned(&both, DType::F16, 64), [NATIVE, backward]);
        let forward = "attention_forward_out_wgsl_bf16_subgroup_d512";
        let backward = "attention_backward_dq_wgsl_bf16_d512";
        assert_eq!(planned(&both, DType::BF16, 200), [forward, backward]);
        let subgroups = device(false, Some((4, 128)), 0);
        assert_eq!(planned(&subgroups, DType::F16, 64)[0], SUBGROUP);
    }

    #[test]
    fn software_prefers_none_but_offers_them() {
        let software = device(true, Some((8, 8)), 4);
        assert_eq!(planned(&software, DType::F16, 64)[0], OF_ANY);
        let offered = offered(&software, Pass::Forward, DType::F16, 64);
        assert_eq!(offered[..3], [OF_ANY, NATIVE, SUBGROUP]);
        assert_eq!(offered.len(), 6);
    }

    /// Rows of wide lines have 8 invocations, of others 4.
    #[test]
    fn rows_lie_in_subgroups_that_are_full() {
        let names = |smallest, largest| {
            let target = device(false, Some((smallest, largest)), 0);
            let mut names = offered(&target, Pass::Forward, DType::F32, 64);
            names.retain(|name| name.contains("subgroup"));
            names
        };
        let [narrow, wide] = [128, 512].map(|d| match d {
            128 => "attention_forward_out_wgsl_f32_subgroup_d128",
            _ => "attention_forward_out_wgsl_f32_subgroup_d512",
        });
        assert_eq!(names(8, 128), [narrow, wide]);
        assert_eq!(names(4, 128), [narrow]);
        // Not full, too small, or nothing that is told.
        for (smallest, largest) in [(8, 256), (2, 64), (0, 0)] {
            assert_eq!(names(smallest, largest), [""; 0]);
        }
    }

    #[test]
    fn what_a_device_lacks_cannot_be_asked_for() {
        let problem = problem(DType::F16, 64);
        for name in [NATIVE, SUBGROUP] {
            let options = Options::default().with_variant(name);
            let refused = walk(&device(false, None, 0), Pass::Forward, &problem, &options);
            let message = refused.unwrap_err().to_string();
            assert!(message.contains(OF_ANY), "{message}");
            let plan = walk(&device(true, Some((8, 8)), 4), Pass::Forward, &problem, &options);
            assert_eq!(plan.unwrap().variant, name);
        }
    }
}
