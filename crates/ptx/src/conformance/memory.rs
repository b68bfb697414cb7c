//! Loads, stores and addresses, spec 1.5 and 3.5.

use super::Program;
use super::fragment::Fragment;

pub(super) fn programs() -> Vec<Program> {
    let mut all = extensions();
    all.extend(vectors());
    all.extend([
        truncated_stores(),
        shared_generic(),
        global_generic(),
        windows(),
        parameters(),
        variables(),
        offsets(),
        strong(),
        hints(),
        guarded(),
    ]);
    all
}

const PATTERN: u64 = 0x0123_4567_89AB_CDEF;

/// Loads narrower than their register: `.s` extends the sign, the others zeros.
fn extensions() -> Vec<Program> {
    let narrow = |bits: u32, signed: bool, width: u32| {
        let ty = format!("{}{bits}", if signed { 's' } else { 'u' });
        let name = format!("ld.global.{ty} into {width} bits");
        let body = format!("ld.global.{ty} %d, [%in];");
        Fragment::new(&name, &format!("b64 -> b{width}"), &body).block(3).rows(3, |row| {
            let value = [PATTERN, 0x7F7F, 0x8080_8080][row];
            let low = value << (64 - bits);
            let extended =
                if signed { (low as i64 >> (64 - bits)) as u64 } else { low >> (64 - bits) };
            (vec![value], vec![extended & u64::MAX >> (64 - width)])
        })
    };
    let mut all = Vec::new();
    for (bits, widths) in [(8, &[16, 32, 64][..]), (16, &[16, 32, 64]), (32, &[32, 64])] {
        for width in widths {
            all.extend([false, true].map(|signed| narrow(bits, signed, *width)));
        }
    }
    all
}

fn vectors() -> Vec<Program> {
    let vector = |ty: &str, bits: u32, count: usize| {
        let registers: Vec<String> = (0..count).map(|at| format!("%d{at}")).collect();
        let list = registers.join(", ");
        let body = format!(
            "{{ .shared .align 16 .b8 tile[16];
            ld.global.v{count}.{ty} {{{list}}}, [%in];
            st.shared.v{count}.{ty} [tile], {{{list}}};
            ld.shared.v{count}.{ty} {{{list}}}, [tile]; }}"
        );
        let kind = if ty.ends_with('8') { "b16".to_owned() } else { ty.to_owned() };
        let signature = format!("a:b64 b:b64 -> d:{kind}*{count}");
        let name = format!("v{count}.{ty} through shared memory");
        Fragment::new(&name, &signature, &body).block(1).rows(1, |_| {
            let memory = u128::from(PATTERN) | u128::from(!PATTERN) << 64;
            let element = |at| (memory >> (at as u32 * bits)) as u64 & u64::MAX >> (64 - bits);
            (vec![PATTERN, !PATTERN], (0..count).map(element).collect())
        })
    };
    vec![
        vector("u8", 8, 2),
        vector("u8", 8, 4),
        vector("b16", 16, 2),
        vector("b16", 16, 4),
        vector("b32", 32, 2),
        vector("b32", 32, 4),
        vector("f32", 32, 4),
        vector("b64", 64, 2),
        vector("f64", 64, 2),
    ]
}

/// A store writes the low bits of its register and nothing beside them.
fn truncated_stores() -> Program {
    let body = "
        { .shared .align 8 .b64 tile;
        st.shared.b64 [tile], -1;
        st.shared.u8 [tile+1], %a;
        st.shared.b16 [tile+4], %a;
        ld.shared.b64 %d, [tile]; }";
    Fragment::new("stores narrower than their register", "b32 -> b64", body)
        .block(1)
        .rows(1, |_| (vec![0x1234_5678], vec![0xFFFF_5678_FFFF_78FF]))
}

fn shared_generic() -> Program {
    let body = "
        { .shared .align 8 .b32 tile[4]; .reg .b32 %offset; .reg .b64 %wide, %generic;
        mov.u32 %offset, tile+8;
        cvt.u64.u32 %wide, %offset;
        cvta.shared.u64 %generic, %wide;
        st.b32 [%generic], %a;
        ld.shared.b32 %d, [tile+8];
        cvta.to.shared.u64 %generic, %generic;
        cvt.u32.u64 %e, %generic;
        sub.u32 %e, %e, %offset; }";
    Fragment::new("shared memory by its generic address", "b32 -> b32 u32", body)
        .block(1)
        .rows(1, |_| (vec![77], vec![77, 0]))
}

fn global_generic() -> Program {
    let body = "
        { .reg .b64 %generic;
        cvta.global.u64 %generic, %in;
        ld.b32 %d, [%generic]; }";
    Fragment::new("global memory by its generic address", "b32 -> b32", body)
        .rows(32, |row| (vec![row as u64 + 5], vec![row as u64 + 5]))
}

fn windows() -> Program {
    let body = "
        { .shared .align 8 .b32 tile[4]; .reg .b64 %local, %generic;
        mov.u64 %local, tile;
        cvta.shared.u64 %local, %local;
        cvta.global.u64 %generic, %in;
        isspacep.shared %d0, %local; isspacep.global %d1, %local;
        isspacep.shared %d2, %generic; isspacep.global %d3, %generic;
        isspacep.local %d4, %generic; }";
    Fragment::new("isspacep", "-> d:pred*5", body)
        .block(1)
        .rows(1, |_| (vec![], vec![1, 0, 0, 1, 0]))
}

/// The pointers are parameters of 8 bytes: as words, by name with an offset and as a vector.
fn parameters() -> Program {
    let body = "
        { .reg .b64 %whole, %joined, %first, %second; .reg .b32 %low, %high;
        ld.param.b64 %whole, [in];
        ld.param.b32 %low, [in];
        ld.param.b32 %high, [in+4];
        mov.b64 %joined, {%low, %high};
        setp.eq.u64 %d, %whole, %joined;
        ld.param.v2.b32 {%low, %high}, [out];
        mov.b64 %first, {%low, %high};
        ld.param.b64 %second, [out];
        setp.eq.u64 %e, %first, %second; }";
    Fragment::new("parameters as words", "-> d:pred e:pred", body)
        .block(1)
        .rows(1, |_| (vec![], vec![1, 1]))
}

/// Two shared variables do not overlap, whatever their sizes and alignments.
fn variables() -> Program {
    let body = "
        { .shared .align 1 .b8 odd[3]; .shared .align 8 .b64 wide; .shared .b16 half;
        st.shared.b64 [wide], -1;
        st.shared.u8 [odd+2], %a;
        st.shared.b16 [half], %a;
        st.shared.u8 [odd], %a;
        ld.shared.b64 %d, [wide];
        ld.shared.u8 %e, [odd+2];
        ld.shared.b16 %f, [half]; }";
    Fragment::new("shared variables lie apart", "b32 -> b64 b32 b16", body)
        .block(1)
        .rows(1, |_| (vec![0x1234], vec![u64::MAX, 0x34, 0x1234]))
}

/// Offsets are signed.
fn offsets() -> Program {
    let body = "
        { .reg .b64 %past;
        add.u64 %past, %in, 16;
        ld.global.b32 %d, [%past+-12];
        ld.global.b32 %e, [%past+-4]; }";
    Fragment::new("signed offsets", "b32 b32 b32 b32 -> b32 b32", body)
        .block(2)
        .rows(2, |_| (vec![10, 20, 30, 40], vec![20, 40]))
}

fn strong() -> Program {
    let body = "
        { .shared .align 8 .b32 tile[2];
        st.relaxed.cta.shared.b32 [tile], %a;
        ld.relaxed.cta.shared.b32 %d, [tile];
        st.release.gpu.global.b32 [%out], %a;
        fence.acq_rel.gpu;
        ld.acquire.gpu.global.b32 %e, [%out]; }";
    Fragment::new("strong loads and stores", "b32 -> b32 b32", body)
        .block(1)
        .rows(1, |_| (vec![99], vec![99, 99]))
}

/// Hints change nothing.
fn hints() -> Program {
    let body = "
        { .reg .b64 %policy;
        createpolicy.fractional.L2::evict_first.b64 %policy, 1.0;
        prefetch.global.L2 [%in];
        ld.global.nc.b32 %d0, [%in];
        ld.global.cg.b32 %d1, [%in];
        ld.global.L1::no_allocate.L2::128B.b32 %d2, [%in];
        ld.global.nc.L1::no_allocate.L2::cache_hint.b32 %d3, [%in], %policy;
        st.global.wt.b32 [%out], %d0;
        ld.weak.global.b32 %d4, [%out]; }";
    Fragment::new("cache hints", "a:b32 -> d:b32*5", body)
        .on("7.4", super::Target::Sm80)
        .rows(32, |row| (vec![row as u64], vec![row as u64; 5]))
}

/// What a guard turns off has no effect and no fault, whatever its address.
fn guarded() -> Program {
    let body = "
        { .reg .b64 %nowhere;
        mov.b64 %nowhere, 0;
        mov.b32 %d, 3;
        setp.ne.u32 %p, %a, 0;
        @!%p mov.b64 %nowhere, %in;
        @!%p ld.global.b32 %d, [%nowhere];
        @%p bra OVER;
        add.u32 %d, %d, 1;
        OVER: }";
    Fragment::new("guarded off", "b32 -> b32", body).rows(32, |row| {
        let value = row as u64 % 2;
        (vec![value], vec![if value == 0 { 1 } else { 3 }])
    })
}
