//! Forms of moves, loads, stores, atomics and cache control.

/// Moves between registers, and addresses.
pub(super) const MOVE: &str = "
mov .t=pred,@data | +t %t
mov .t=b128 | +t %t ; 8.3/70
mov .t=b32 | +t b16*2
mov .t=b64 | +t b32*2
mov .t=b64 | +t b16*4
mov .t=b32 | +_b16*2 &t
mov .t=b64 | +_b32*2 &t
mov .t=b64 | +_b16*4 &t
mov .t=b128 | +t b64*2 ; 8.3/70
mov .t=b128 | +_b64*2 &t ; 8.3/70
cvta .ss=global,shared,local,const .t=u64 | +t %t
cvta .ss=shared::cta,shared::cluster .t=u64 | +t %t
cvta .ss=param .t=u64 | +t %t ; 7.7/70
cvta .to .ss=global,shared,local,const,shared::cta,shared::cluster .t=u64 | +t &t
cvta .to .ss=param .t=u64 | +t &t ; 7.7/70
isspacep .ss=global,shared,shared::cta,shared::cluster,local,const | +pred &u64
isspacep .ss=param | +pred &u64 ; 7.7/70
";

/// Loads and stores. `.volatile` is left out: write `.relaxed.sys`.
pub(super) const LOAD_STORE: &str = "
ld .weak? .ss=@read? .cop=ca,cg,cs,lu,cv? .L1=@l1? .h=L2::cache_hint? .L2=@l2? .v=v2,v4? .t=@mem | +~t*v [ss] <h>&b64
ld .ss=global .cop=ca,cg,cs? .nc .L1=@l1? .h=L2::cache_hint? .L2=@l2? .v=v2,v4? .t=@mem | +~t*v [ss] <h>&b64
ld .sem=relaxed,acquire .scope=@scope .ss=@strong? .L1=@l1? .h=L2::cache_hint? .L2=@l2? .v=v2,v4? .t=@mem | +~t*v [ss] <h>&b64 ; 6.0/70
st .weak? .ss=@write? .cop=wb,cg,cs,wt? .L1=@l1? .h=L2::cache_hint? .v=v2,v4? .t=@mem | [ss] ~t*v <h>&b64
st .sem=relaxed,release .scope=@scope .ss=@strong? .L1=@l1? .h=L2::cache_hint? .v=v2,v4? .t=@mem | [ss] ~t*v <h>&b64 ; 6.0/70
st .async .weak? .ss=shared::cluster .mbarrier::complete_tx::bytes .v=v2,v4? .t=b32,u32,s32,f32,b64,u64,s64,f64 | [ss] t*v [ss] ; 8.1/90
";

/// Atomics.
pub(super) const ATOMIC: &str = "
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=@strong? .op=add .h=L2::cache_hint? .t=u32,s32,u64,f32,f64 | +_t [ss] t <h>&b64
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=@strong? .op=add .noftz .h=L2::cache_hint? .t=f16,f16x2 | +_t [ss] t <h>&b64 ; 6.3/70
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=@strong? .op=add .noftz .h=L2::cache_hint? .t=bf16,bf16x2 | +_t [ss] t <h>&b64 ; 7.8/90
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=@strong? .op=min,max .h=L2::cache_hint? .t=@int64 | +_t [ss] t <h>&b64
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=@strong? .op=inc,dec .h=L2::cache_hint? .t=u32 | +_t [ss] t <h>&b64
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=@strong? .op=and,or,xor,exch .h=L2::cache_hint? .t=b32,b64 | +_t [ss] t <h>&b64
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=@strong? .op=cas .t=b32,b64 | +_t [ss] t t
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=@strong? .op=cas .t=b16 | +_t [ss] t t ; 6.3/70
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=@strong? .op=exch .t=b128 | +_t [ss] t ; 8.4/90
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=@strong? .op=cas .t=b128 | +_t [ss] t t ; 8.4/90
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=global .op=add .h=L2::cache_hint? .v=v2,v4 .t=f32 | +_t*v [ss] t*v <h>&b64 ; 8.1/90
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=global .op=add,min,max .noftz .h=L2::cache_hint? .v=v2,v4,v8 .t=f16,bf16 | +_t*v [ss] t*v <h>&b64 ; 8.1/90
atom .sem=relaxed,acquire,release,acq_rel? .scope=@scope? .ss=global .op=add,min,max .noftz .h=L2::cache_hint? .v=v2,v4 .t=f16x2,bf16x2 | +_t*v [ss] t*v <h>&b64 ; 8.1/90
red .async .relaxed .cluster .ss=shared::cluster .mbarrier::complete_tx::bytes .op=add .t=u32,s32,u64 | [ss] t [ss] ; 8.1/90
red .async .relaxed .cluster .ss=shared::cluster .mbarrier::complete_tx::bytes .op=min,max .t=@int32 | [ss] t [ss] ; 8.1/90
red .async .relaxed .cluster .ss=shared::cluster .mbarrier::complete_tx::bytes .op=inc,dec .t=u32 | [ss] t [ss] ; 8.1/90
red .async .relaxed .cluster .ss=shared::cluster .mbarrier::complete_tx::bytes .op=and,or,xor .t=b32 | [ss] t [ss] ; 8.1/90
red .sem=relaxed,release? .scope=@scope? .ss=@strong? .op=add .h=L2::cache_hint? .t=u32,s32,u64,f32,f64 | [ss] t <h>&b64
red .sem=relaxed,release? .scope=@scope? .ss=@strong? .op=add .noftz .h=L2::cache_hint? .t=f16,f16x2 | [ss] t <h>&b64 ; 6.3/70
red .sem=relaxed,release? .scope=@scope? .ss=@strong? .op=add .noftz .h=L2::cache_hint? .t=bf16,bf16x2 | [ss] t <h>&b64 ; 7.8/90
red .sem=relaxed,release? .scope=@scope? .ss=@strong? .op=min,max .h=L2::cache_hint? .t=@int64 | [ss] t <h>&b64
red .sem=relaxed,release? .scope=@scope? .ss=@strong? .op=inc,dec .h=L2::cache_hint? .t=u32 | [ss] t <h>&b64
red .sem=relaxed,release? .scope=@scope? .ss=@strong? .op=and,or,xor .h=L2::cache_hint? .t=b32,b64 | [ss] t <h>&b64
red .sem=relaxed,release? .scope=@scope? .ss=global .op=add .h=L2::cache_hint? .v=v2,v4 .t=f32 | [ss] t*v <h>&b64 ; 8.1/90
red .sem=relaxed,release? .scope=@scope? .ss=global .op=add,min,max .noftz .h=L2::cache_hint? .v=v2,v4,v8 .t=f16,bf16 | [ss] t*v <h>&b64 ; 8.1/90
red .sem=relaxed,release? .scope=@scope? .ss=global .op=add,min,max .noftz .h=L2::cache_hint? .v=v2,v4 .t=f16x2,bf16x2 | [ss] t*v <h>&b64 ; 8.1/90
";

/// Prefetches and policies.
pub(super) const CACHE: &str = "
prefetch .ss=global,local .level=L1,L2 | [ss]
prefetch .level=L1,L2 | []
prefetch .ss=global .level=L2::evict_last,L2::evict_normal | [ss] ; 7.4/80
prefetch .ss=param,const? .tensormap | [ss] ; 8.0/90
prefetchu .L1 | []
applypriority .ss=global? .L2::evict_normal | [ss] #u32:128..128 ; 7.4/80
discard .ss=global? .L2 | [ss] #u32:128..128 ; 7.4/80
createpolicy .fractional .first=L2::evict_last,L2::evict_normal,L2::evict_first,L2::evict_unchanged .second=L2::evict_first,L2::evict_unchanged? .t=b64 | +t ?f32 ; 7.4/80
createpolicy .cvt .L2 .t=b64 | +t &b64 ; 7.4/80
";
