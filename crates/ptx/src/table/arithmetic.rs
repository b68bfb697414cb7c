//! Forms of integer and float arithmetic, comparison and conversion.

/// Integers and bits.
pub(super) const INTEGER: &str = "
add .t=@int | +t t t
add .sat .t=s32 | +t t t
add .t=u16x2,s16x2 | +t t t ; 8.0/90
add .cc .t=@int64 | +t t t
addc .cc? .t=@int64 | +t t t
sub .t=@int | +t t t
sub .sat .t=s32 | +t t t
sub .cc .t=@int64 | +t t t
subc .cc? .t=@int64 | +t t t
mul .mode=lo,hi .t=@int | +t t t
mul .wide .t=s16,u16,s32,u32 | +2t t t
mad .mode=lo,hi .t=@int | +t t t t
mad .wide .t=s16,u16,s32,u32 | +2t t t 2t
mad .hi .sat .t=s32 | +t t t t
mad .mode=lo,hi .cc .t=@int64 | +t t t t
madc .mode=lo,hi .cc? .t=@int64 | +t t t t
mul24 .mode=lo,hi .t=@int32 | +t t t
mad24 .mode=lo,hi .t=@int32 | +t t t t
mad24 .hi .sat .t=s32 | +t t t t
div .t=@int | +t t t
rem .t=@int | +t t t
sad .t=@int | +t t t t
min .t=@int | +t t t
min .relu .t=s32 | +t t t ; 8.0/90
min .t=u16x2 | +t t t ; 8.0/90
min .relu? .t=s16x2 | +t t t ; 8.0/90
max .t=@int | +t t t
max .relu .t=s32 | +t t t ; 8.0/90
max .t=u16x2 | +t t t ; 8.0/90
max .relu? .t=s16x2 | +t t t ; 8.0/90
abs .t=s16,s32,s64 | +t t
neg .t=s16,s32,s64 | +t t
popc .t=b32,b64 | +u32 t
clz .t=b32,b64 | +u32 t
brev .t=b32,b64 | +t t
bfind .shiftamt? .t=@int64 | +u32 t
bfe .t=@int64 | +t t u32:0..255 u32:0..255
bfi .t=b32,b64 | +t t t u32:0..255 u32:0..255
bmsk .mode=clamp,wrap .t=b32 | +t t u32 ; 7.6/70
szext .mode=clamp,wrap .t=@int32 | +t t u32 ; 7.6/70
fns .t=b32 | +t t b32 s32
dp4a .at=@int32 .bt=@int32 | +b32 b32 b32 b32 ; 5.0/61
dp2a .mode=lo,hi .at=@int32 .bt=@int32 | +b32 b32 b32 b32 ; 5.0/61
and .t=b16,b32,b64,pred | +t t t
or .t=b16,b32,b64,pred | +t t t
xor .t=b16,b32,b64,pred | +t t t
not .t=b16,b32,b64,pred | +t t
cnot .t=b16,b32,b64 | +t t
lop3 .t=b32 | +t t t t #u32:0..255
lop3 .bool=or,and .t=b32 | +_t/pred t t t #u32:0..255 !pred ; 8.2/70
shl .t=b16,b32,b64 | +t t u32
shr .t=b16,b32,b64,u16,u32,u64,s16,s32,s64 | +t t u32
shf .dir=l,r .mode=clamp,wrap .t=b32 | +t t t u32
prmt .t=b32 .mode=f4e,b4e,rc8,ecl,ecr,rc16? | +t t t u32
";

/// Float arithmetic. Rounding is mandatory wherever ptxas could otherwise fuse a product and a sum.
pub(super) const FLOAT: &str = "
add .rnd=@rnd .ftz? .sat? .t=f32 | +t t t
add .rnd=@rnd .t=f64 | +t t t
add .rn .ftz? .sat? .t=f16,f16x2 | +t t t
add .rn .t=bf16,bf16x2 | +t t t ; 7.8/90
sub .rnd=@rnd .ftz? .sat? .t=f32 | +t t t
sub .rnd=@rnd .t=f64 | +t t t
sub .rn .ftz? .sat? .t=f16,f16x2 | +t t t
sub .rn .t=bf16,bf16x2 | +t t t ; 7.8/90
mul .rnd=@rnd .ftz? .sat? .t=f32 | +t t t
mul .rnd=@rnd .t=f64 | +t t t
mul .rn .ftz? .sat? .t=f16,f16x2 | +t t t
mul .rn .t=bf16,bf16x2 | +t t t ; 7.8/90
fma .rnd=@rnd .ftz? .sat? .t=f32 | +t t t t
fma .rnd=@rnd .t=f64 | +t t t t
fma .rn .ftz? .sat? .t=f16,f16x2 | +t t t t
fma .rn .ftz? .relu .t=f16,f16x2 | +t t t t ; 7.0/80
fma .rn .relu? .t=bf16,bf16x2 | +t t t t ; 7.0/80
fma .rn .oob .relu? .t=f16,f16x2,bf16,bf16x2 | +t t t t ; 8.1/90
mad .rnd=@rnd .ftz? .sat? .t=f32 | +t t t t
mad .rnd=@rnd .t=f64 | +t t t t
min .ftz? .t=f32 | +t t t
min .ftz? .NaN .t=f32 | +t t t ; 7.0/80
min .ftz? .NaN? .xorsign .abs .t=f32 | +t t t ; 7.2/86
min .t=f64 | +t t t
min .ftz? .NaN? .t=f16,f16x2 | +t t t ; 7.0/80
min .NaN? .t=bf16,bf16x2 | +t t t ; 7.0/80
min .NaN? .xorsign .abs .t=f16,f16x2,bf16,bf16x2 | +t t t ; 7.2/86
max .ftz? .t=f32 | +t t t
max .ftz? .NaN .t=f32 | +t t t ; 7.0/80
max .ftz? .NaN? .xorsign .abs .t=f32 | +t t t ; 7.2/86
max .t=f64 | +t t t
max .ftz? .NaN? .t=f16,f16x2 | +t t t ; 7.0/80
max .NaN? .t=bf16,bf16x2 | +t t t ; 7.0/80
max .NaN? .xorsign .abs .t=f16,f16x2,bf16,bf16x2 | +t t t ; 7.2/86
abs .ftz? .t=f32 | +t t
abs .t=f64 | +t t
abs .ftz? .t=f16,f16x2 | +t t ; 6.5/53
abs .t=bf16,bf16x2 | +t t ; 7.0/80
neg .ftz? .t=f32 | +t t
neg .t=f64 | +t t
neg .ftz? .t=f16,f16x2 | +t t ; 6.0/53
neg .t=bf16,bf16x2 | +t t ; 7.0/80
copysign .t=f32,f64 | +t t t
testp .op=finite,infinite,number,notanumber,normal,subnormal .t=f32,f64 | +pred t
rcp .rnd=@rnd .ftz? .t=f32 | +t t
rcp .rnd=@rnd .t=f64 | +t t
sqrt .rnd=@rnd .ftz? .t=f32 | +t t
sqrt .rnd=@rnd .t=f64 | +t t
div .rnd=@rnd .ftz? .t=f32 | +t t t
div .rnd=@rnd .t=f64 | +t t t
";

/// Approximations of the special-function unit.
pub(super) const APPROXIMATE: &str = "
ex2 .approx .ftz? .t=f32 | +t t
ex2 .approx .t=f16,f16x2 | +t t ; 7.0/75
ex2 .approx .ftz .t=bf16,bf16x2 | +t t ; 7.8/90
lg2 .approx .ftz? .t=f32 | +t t
rcp .approx .ftz? .t=f32 | +t t
rcp .approx .ftz .t=f64 | +t t
rsqrt .approx .ftz? .t=f32 | +t t
rsqrt .approx .ftz .t=f64 | +t t
sqrt .approx .ftz? .t=f32 | +t t
sin .approx .ftz? .t=f32 | +t t
cos .approx .ftz? .t=f32 | +t t
tanh .approx .t=f32,f16,f16x2 | +t t ; 7.0/75
tanh .approx .t=bf16,bf16x2 | +t t ; 7.8/90
div .mode=approx,full .ftz? .t=f32 | +t t t
";

/// Comparison and selection.
pub(super) const COMPARE: &str = "
setp .cmp=@scmp .t=s16,s32,s64 | +_pred/?pred t t
setp .cmp=@scmp,lo,ls,hi,hs .t=u16,u32,u64 | +_pred/?pred t t
setp .cmp=@scmp .bool=@bool .t=s16,s32,s64 | +_pred/?pred t t !pred
setp .cmp=@scmp,lo,ls,hi,hs .bool=@bool .t=u16,u32,u64 | +_pred/?pred t t !pred
setp .cmp=eq,ne .t=b16,b32,b64 | +_pred/?pred t t
setp .cmp=eq,ne .bool=@bool .t=b16,b32,b64 | +_pred/?pred t t !pred
setp .cmp=@fcmp .ftz? .t=f32 | +_pred/?pred t t
setp .cmp=@fcmp .bool=@bool .ftz? .t=f32 | +_pred/?pred t t !pred
setp .cmp=@fcmp .ftz? .t=f16 | +pred t t
setp .cmp=@fcmp .bool=@bool .ftz? .t=f16 | +pred t t !pred
setp .cmp=@fcmp .t=f64 | +_pred/?pred t t
setp .cmp=@fcmp .bool=@bool .t=f64 | +_pred/?pred t t !pred
setp .cmp=@fcmp .ftz? .t=f16x2 | +_pred/pred t t
setp .cmp=@fcmp .bool=@bool .ftz? .t=f16x2 | +_pred/pred t t !pred
setp .cmp=@fcmp .t=bf16 | +pred t t ; 7.8/90
setp .cmp=@fcmp .bool=@bool .t=bf16 | +pred t t !pred ; 7.8/90
setp .cmp=@fcmp .t=bf16x2 | +_pred/pred t t ; 7.8/90
setp .cmp=@fcmp .bool=@bool .t=bf16x2 | +_pred/pred t t !pred ; 7.8/90
set .cmp=@scmp .d=u32,s32,f32 .t=s16,s32,s64 | +d t t
set .cmp=@scmp,lo,ls,hi,hs .d=u32,s32,f32 .t=u16,u32,u64 | +d t t
set .cmp=@scmp .bool=@bool .d=u32,s32,f32 .t=s16,s32,s64 | +d t t !pred
set .cmp=@scmp,lo,ls,hi,hs .bool=@bool .d=u32,s32,f32 .t=u16,u32,u64 | +d t t !pred
set .cmp=eq,ne .d=u32,s32,f32 .t=b16,b32,b64 | +d t t
set .cmp=eq,ne .bool=@bool .d=u32,s32,f32 .t=b16,b32,b64 | +d t t !pred
set .cmp=@fcmp .ftz? .d=u32,s32,f32 .t=f32 | +d t t
set .cmp=@fcmp .bool=@bool .ftz? .d=u32,s32,f32 .t=f32 | +d t t !pred
set .cmp=@fcmp .d=u32,s32,f32 .t=f64 | +d t t
set .cmp=@fcmp .bool=@bool .d=u32,s32,f32 .t=f64 | +d t t !pred
set .cmp=@fcmp .ftz? .d=f16,u16,s16,u32,s32 .t=f16 | +d t t
set .cmp=@fcmp .ftz? .d=f16x2,u32,s32 .t=f16x2 | +d t t
selp .t=@data | +t t t pred
slct .t=@data .c=s32 | +t t t c
slct .ftz? .t=@data .c=f32 | +t t t c
";

/// `cvt`: a rounding stands exactly where a conversion can round.
pub(super) const CONVERT: &str = "
cvt .sat? .d=@anyint .a=@anyint | +~d ~a
cvt .rnd=@rndi .ftz? .sat? .d=@anyint .a=f32 | +~d ~a
cvt .rnd=@rndi .sat? .d=@anyint .a=f16,f64 | +~d ~a
cvt .rnd=@rndi .d=@int .a=bf16 | +~d ~a ; 7.8/90
cvt .rnd=@rnd .ftz? .sat? .d=f32 .a=@anyint | +~d ~a
cvt .rnd=@rnd .sat? .d=f16,f64 .a=@anyint | +~d ~a
cvt .rnd=@rnd .d=bf16 .a=@int | +~d ~a ; 7.8/90
cvt .rnd=@rnd .ftz? .sat? .d=f16 .a=f32 | +~d ~a
cvt .rnd=@rnd .sat? .d=f16 .a=f64 | +~d ~a
cvt .rnd=@rnd .ftz? .sat? .d=f32 .a=f64 | +~d ~a
cvt .ftz? .sat? .d=f32 .a=f16 | +~d ~a
cvt .sat? .d=f64 .a=f16 | +~d ~a
cvt .ftz? .sat? .d=f64 .a=f32 | +~d ~a
cvt .d=f32 .a=bf16 | +~d ~a ; 7.1/80
cvt .ftz .d=f32 .a=bf16 | +~d ~a ; 7.8/90
cvt .rnd=@rndi .ftz? .sat? .d=f32 .a=f32 | +d a
cvt .ftz? .sat? .d=f32 .a=f32 | +d a
cvt .rnd=@rndi .sat? .d=f64 .a=f64 | +d a
cvt .sat? .d=f64 .a=f64 | +d a
cvt .rnd=@rndi .sat? .d=f16 .a=f16 | +d a
cvt .sat? .d=f16 .a=f16 | +d a
cvt .rnd=rn,rz .relu? .d=f16,bf16 .a=f32 | +~d ~a ; 7.0/80
cvt .rnd=rn,rz .relu? .d=f16x2,bf16x2 .a=f32 | +d a a ; 7.0/80
cvt .rnd=rn,rz .relu? .satfinite .d=f16,bf16 .a=f32 | +~d ~a ; 8.1/80
cvt .rnd=rn,rz .relu? .satfinite .d=f16x2,bf16x2 .a=f32 | +d a a ; 8.1/80
cvt .rnd=rn,rz,rm,rp .d=bf16 .a=f16,f64 | +~d ~a ; 7.8/90
cvt .rna .d=tf32 .a=f32 | +d a ; 7.0/80
cvt .rna .satfinite .d=tf32 .a=f32 | +d a ; 8.1/80
cvt .rnd=rn,rz .relu? .d=tf32 .a=f32 | +d a ; 7.8/90
cvt .rn .satfinite .relu? .d=e4m3x2,e5m2x2 .a=f32 | +d a a ; 7.8/90
cvt .rn .satfinite .relu? .d=e4m3x2,e5m2x2 .a=f32 | +d a a ; 8.1/89
cvt .rn .satfinite .relu? .d=e4m3x2,e5m2x2 .a=f16x2 | +d a ; 7.8/90
cvt .rn .satfinite .relu? .d=e4m3x2,e5m2x2 .a=f16x2 | +d a ; 8.1/89
cvt .rn .relu? .d=f16x2 .a=e4m3x2,e5m2x2 | +d a ; 7.8/90
cvt .rn .relu? .d=f16x2 .a=e4m3x2,e5m2x2 | +d a ; 8.1/89
cvt .pack .sat .d=s8,u8 .a=s32 .c=b32 | +b32 a a c ; 6.5/72
cvt .pack .sat .d=s16,u16 .a=s32 | +b32 a a ; 6.5/72
";
