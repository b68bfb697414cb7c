//! Forms of the tensor cores and of the matrix moves that feed them.

/// Matrices of 8×8 16-bit elements. Braces are needed even for one register.
pub(super) const MATRIX: &str = "
ldmatrix .sync .aligned .m8n8 .x=x1,x2,x4 .trans? .ss=@cta? .b16 | +b32*x [ss] ; 6.5/75
stmatrix .sync .aligned .m8n8 .x=x1,x2,x4 .trans? .ss=@cta? .b16 | [ss] b32*x ; 7.8/90
movmatrix .sync .aligned .m8n8 .trans .b16 | +b32 &b32 ; 7.8/75
";

/// `mma.sync`: D, A, B, C with the registers per lane of each.
pub(super) const MMA: &str = "
mma .sync .aligned .shape=m16n8k8 .row .col .d=f32 .a=f16 .b=f16 .c=f32 | +f32*4 &f16x2*2 &f16x2*1 f32*4 ; 6.5/75
mma .sync .aligned .shape=m16n8k8 .row .col .d=f16 .a=f16 .b=f16 .c=f16 | +f16x2*2 &f16x2*2 &f16x2*1 f16x2*2 ; 6.5/75
mma .sync .aligned .shape=m16n8k8 .row .col .d=f32 .a=bf16 .b=bf16 .c=f32 | +f32*4 &bf16x2*2 &bf16x2*1 f32*4 ; 7.0/80
mma .sync .aligned .shape=m16n8k16 .row .col .d=f32 .a=f16 .b=f16 .c=f32 | +f32*4 &f16x2*4 &f16x2*2 f32*4 ; 7.0/80
mma .sync .aligned .shape=m16n8k16 .row .col .d=f16 .a=f16 .b=f16 .c=f16 | +f16x2*2 &f16x2*4 &f16x2*2 f16x2*2 ; 7.0/80
mma .sync .aligned .shape=m16n8k16 .row .col .d=f32 .a=bf16 .b=bf16 .c=f32 | +f32*4 &bf16x2*4 &bf16x2*2 f32*4 ; 7.0/80
mma .sync .aligned .shape=m16n8k4 .row .col .d=f32 .a=tf32 .b=tf32 .c=f32 | +f32*4 &tf32*2 &tf32*1 f32*4 ; 7.0/80
mma .sync .aligned .shape=m16n8k8 .row .col .d=f32 .a=tf32 .b=tf32 .c=f32 | +f32*4 &tf32*4 &tf32*2 f32*4 ; 7.0/80
mma .sync .aligned .shape=m16n8k16 .row .col .satfinite? .d=s32 .a=u8,s8 .b=u8,s8 .c=s32 | +s32*4 &b32*2 &b32*1 s32*4 ; 7.0/80
mma .sync .aligned .shape=m16n8k32 .row .col .satfinite? .d=s32 .a=u8,s8 .b=u8,s8 .c=s32 | +s32*4 &b32*4 &b32*2 s32*4 ; 7.0/80
mma .sync .aligned .shape=m8n8k4 .row .col .d=f64 .a=f64 .b=f64 .c=f64 | +f64*2 &f64*1 &f64*1 f64*2 ; 7.0/80
mma .sync .aligned .shape=m16n8k4 .row .col .d=f64 .a=f64 .b=f64 .c=f64 | +f64*4 &f64*2 &f64*1 f64*4 ; 7.8/90
mma .sync .aligned .shape=m16n8k8 .row .col .d=f64 .a=f64 .b=f64 .c=f64 | +f64*4 &f64*4 &f64*2 f64*4 ; 7.8/90
mma .sync .aligned .shape=m16n8k16 .row .col .d=f64 .a=f64 .b=f64 .c=f64 | +f64*4 &f64*8 &f64*4 f64*4 ; 7.8/90
mma .sync .aligned .shape=m16n8k32 .row .col .d=f32 .a=e4m3,e5m2 .b=e4m3,e5m2 .c=f32 | +f32*4 &b32*4 &b32*2 f32*4 ; 8.4/89
";

/// `wgmma`: D has N/2 registers, or N/4 where they hold two halves; A is a descriptor or four registers.
pub(super) const WGMMA: &str = "
wgmma .fence .sync .aligned | ; 8.0/90a
wgmma .commit_group .sync .aligned | ; 8.0/90a
wgmma .wait_group .sync .aligned | #u32 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k16 .d=f32 .a=f16 .b=f16 | +f32*n/2 &b64 &b64 pred #s32:-1..1/2 #s32:-1..1/2 #s32:0..1 #s32:0..1 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k16 .d=f32 .a=f16 .b=f16 | +f32*n/2 &f16x2*4 &b64 pred #s32:-1..1/2 #s32:-1..1/2 #s32:0..1 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k16 .d=f16 .a=f16 .b=f16 | +f16x2*n/4 &b64 &b64 pred #s32:-1..1/2 #s32:-1..1/2 #s32:0..1 #s32:0..1 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k16 .d=f16 .a=f16 .b=f16 | +f16x2*n/4 &f16x2*4 &b64 pred #s32:-1..1/2 #s32:-1..1/2 #s32:0..1 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k16 .d=f32 .a=bf16 .b=bf16 | +f32*n/2 &b64 &b64 pred #s32:-1..1/2 #s32:-1..1/2 #s32:0..1 #s32:0..1 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k16 .d=f32 .a=bf16 .b=bf16 | +f32*n/2 &bf16x2*4 &b64 pred #s32:-1..1/2 #s32:-1..1/2 #s32:0..1 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k8 .d=f32 .a=tf32 .b=tf32 | +f32*n/2 &b64 &b64 pred #s32:-1..1/2 #s32:-1..1/2 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k8 .d=f32 .a=tf32 .b=tf32 | +f32*n/2 &tf32*4 &b64 pred #s32:-1..1/2 #s32:-1..1/2 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k32 .d=f32 .a=e4m3,e5m2 .b=e4m3,e5m2 | +f32*n/2 &b64 &b64 pred #s32:-1..1/2 #s32:-1..1/2 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k32 .d=f32 .a=e4m3,e5m2 .b=e4m3,e5m2 | +f32*n/2 &b32*4 &b64 pred #s32:-1..1/2 #s32:-1..1/2 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k32 .d=f16 .a=e4m3,e5m2 .b=e4m3,e5m2 | +f16x2*n/4 &b64 &b64 pred #s32:-1..1/2 #s32:-1..1/2 ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{8}k32 .d=f16 .a=e4m3,e5m2 .b=e4m3,e5m2 | +f16x2*n/4 &b32*4 &b64 pred #s32:-1..1/2 #s32:-1..1/2 ; 8.0/90a
wgmma .mma_async .sync .aligned .satfinite? .n=m64n{16}k32 .d=s32 .a=s8,u8 .b=s8,u8 .satfinite? | +s32*n/2 &b64 &b64 pred ; 8.0/90a
wgmma .mma_async .sync .aligned .n=m64n{16}k32 .d=s32 .a=s8,u8 .b=s8,u8 .satfinite? | +s32*n/2 &b32*4 &b64 pred ; 8.0/90a
";
