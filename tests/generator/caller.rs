use backend::cuda::{Address, Grid, Stream};
use backend::kernel::{Language, Tier, all};
use backend::wgpu::{Recorder, Slice};
use kernels::{ClearPtx, ScalePtx, ScaleWgsl, ScaleWgslParams};

pub fn main() {
    let (scale, clear, wgsl) =
        (ScalePtx::VARIANTS[3], ClearPtx::VARIANTS[0], ScaleWgsl::VARIANTS[0]);

    let stream = Stream::default();
    ScalePtx { x: Address(1), y: Address(2), count: 3, scale: 0.5 }
        .launch(&stream, &scale, Grid)
        .unwrap();
    ClearPtx { x: Address(4) }.launch(&stream, &clear, Grid).unwrap();
    let kept = stream.0.take();
    assert_eq!(kept[0], b"demo_scale_f16_n4");
    assert_eq!(kept[1], 1_u64.to_ne_bytes());
    assert_eq!(kept[2], 2_u64.to_ne_bytes());
    assert_eq!(kept[3], 3_u32.to_ne_bytes());
    assert_eq!(kept[4], 0.5_f32.to_ne_bytes());
    assert_eq!(kept[5..], [b"demo_clear".to_vec(), 4_u64.to_ne_bytes().to_vec()]);

    let mut kept = Vec::new();
    let mut recorder = Recorder(&mut kept);
    let params = ScaleWgslParams { count: 7, scale: 2.0, offset: [8, 9] };
    ScaleWgsl { params, x: Slice(&1), y: Slice(&2) }
        .record(&mut recorder, &wgsl, [5, 6, 7])
        .unwrap();
    assert_eq!(kept[0], b"demo_scale_wgsl");
    assert_eq!(kept[1], [5, 6, 7]);
    assert_eq!(kept[2][..4], 7_u32.to_ne_bytes());
    assert_eq!(kept[2][4..8], 2_f32.to_ne_bytes());
    assert_eq!(kept[2][8..], [8_u32.to_ne_bytes(), 9_u32.to_ne_bytes()].concat());
    assert_eq!(kept[3], [1, 2]);

    let info = scale.info;
    assert_eq!((info.operation, info.entry, info.pass), ("demo", "scale_ptx", "forward"));
    let parameters = [("element", "f16"), ("per_thread", "4"), ("schedule", "serial")];
    assert_eq!(info.parameters, parameters);
    assert_eq!((info.parameter("element"), info.parameter("tile")), (Some("f16"), None));
    assert_eq!((info.number("per_thread"), info.number("element")), (Some(4), None));
    assert_eq!((info.language, info.block, info.shared_bytes), (Language::Ptx(Tier::Sm80), [64, 1, 1], 64));
    assert_eq!((wgsl.info.language, wgsl.info.shared_bytes), (Language::Wgsl, 256));
    assert_eq!(all().count(), 6);

    // Line by line, the text comes from where it says.
    for info in all() {
        for (line, text) in (1..).zip(info.text().lines()) {
            let (file, number) = info.source(line).unwrap();
            let file = file.as_str();
            match text.split_whitespace().next() {
                Some("ld.global.f32") => assert_eq!((file, number), ("common/memory.ptx", 9)),
                Some("@%inside") => assert_eq!((file, number), ("common/memory.ptx", 14)),
                Some("mul.rn.f32") => assert_eq!((file, number), ("demo/scale.ptx", 36)),
                Some("mad.wide.u32") => assert_eq!((file, number), ("common/clear.ptx", 16)),
                Some("workgroupBarrier();") => assert_eq!((file, number), ("demo/scale.wgsl", 20)),
                Some("ret;") if file == "demo/scale.ptx" => assert_eq!(number, 39),
                _ => {}
            }
        }
    }
}
