//! Forms of `cp.async` and of the bulk copies of sm_90.

/// `cp.async`: the row of a size bounds its source size too.
pub(super) const COPY: &str = "
cp .async .ca .d=@cta .global .h=L2::cache_hint? .L2=@l2? | [d] [global] #u32:16..16 ?u32:0..16 <h>&b64 ; 7.0/80
cp .async .ca .d=@cta .global .h=L2::cache_hint? .L2=@l2? | [d] [global] #u32:4..4 ?u32:0..4 <h>&b64 ; 7.0/80
cp .async .ca .d=@cta .global .h=L2::cache_hint? .L2=@l2? | [d] [global] #u32:8..8 ?u32:0..8 <h>&b64 ; 7.0/80
cp .async .ca .d=@cta .global .h=L2::cache_hint? .L2=@l2? | [d] [global] #u32:4..16/4 &pred <h>&b64 ; 7.5/80
cp .async .cg .d=@cta .global .h=L2::cache_hint? .L2=@l2? | [d] [global] #u32:16..16 ?u32:0..16 <h>&b64 ; 7.0/80
cp .async .cg .d=@cta .global .h=L2::cache_hint? .L2=@l2? | [d] [global] #u32:16..16 &pred <h>&b64 ; 7.5/80
cp .async .commit_group | ; 7.0/80
cp .async .wait_group | #u32 ; 7.0/80
cp .async .wait_all | ; 7.0/80
cp .async .mbarrier .arrive .noinc? .ss=@cta? .t=b64 | [ss] ; 7.0/80
";

/// Bulk copies (TMA).
pub(super) const BULK: &str = "
cp .async .bulk .d=shared::cluster .s=global .mbarrier::complete_tx::bytes .m=multicast::cluster? .h=L2::cache_hint? | [d] [s] u32:16..1048575/16 [shared] <m>&b16 <h>&b64 ; 8.0/90
cp .async .bulk .d=shared::cta .s=global .mbarrier::complete_tx::bytes .h=L2::cache_hint? | [d] [s] u32:16..1048575/16 [shared] <h>&b64 ; 8.6/90
cp .async .bulk .d=shared::cluster .s=shared::cta .mbarrier::complete_tx::bytes | [d] [s] u32:16..1048575/16 [shared] ; 8.0/90
cp .async .bulk .d=global .s=shared::cta .bulk_group .h=L2::cache_hint? | [d] [s] u32:16..1048575/16 <h>&b64 ; 8.0/90
cp .reduce .async .bulk .d=global .s=shared::cta .bulk_group .h=L2::cache_hint? .op=add .t=u32,s32,u64,f32,f64 | [d] [s] u32:16..1048575/16 <h>&b64 ; 8.0/90
cp .reduce .async .bulk .d=global .s=shared::cta .bulk_group .h=L2::cache_hint? .op=add .noftz .t=f16,bf16 | [d] [s] u32:16..1048575/16 <h>&b64 ; 8.0/90
cp .reduce .async .bulk .d=global .s=shared::cta .bulk_group .h=L2::cache_hint? .op=min,max .t=u32,s32,u64,s64,f16,bf16 | [d] [s] u32:16..1048575/16 <h>&b64 ; 8.0/90
cp .reduce .async .bulk .d=global .s=shared::cta .bulk_group .h=L2::cache_hint? .op=inc,dec .t=u32 | [d] [s] u32:16..1048575/16 <h>&b64 ; 8.0/90
cp .reduce .async .bulk .d=global .s=shared::cta .bulk_group .h=L2::cache_hint? .op=and,or,xor .t=b32,b64 | [d] [s] u32:16..1048575/16 <h>&b64 ; 8.0/90
cp .reduce .async .bulk .d=shared::cluster .s=shared::cta .mbarrier::complete_tx::bytes .op=add .t=u32,s32,u64 | [d] [s] u32:16..1048575/16 [shared] ; 8.0/90
cp .reduce .async .bulk .d=shared::cluster .s=shared::cta .mbarrier::complete_tx::bytes .op=min,max .t=@int32 | [d] [s] u32:16..1048575/16 [shared] ; 8.0/90
cp .reduce .async .bulk .d=shared::cluster .s=shared::cta .mbarrier::complete_tx::bytes .op=inc,dec .t=u32 | [d] [s] u32:16..1048575/16 [shared] ; 8.0/90
cp .reduce .async .bulk .d=shared::cluster .s=shared::cta .mbarrier::complete_tx::bytes .op=and,or,xor .t=b32 | [d] [s] u32:16..1048575/16 [shared] ; 8.0/90
cp .async .bulk .commit_group | ; 8.0/90
cp .async .bulk .wait_group .read? | #u32 ; 8.0/90
cp .async .bulk .prefetch .L2 .s=global .h=L2::cache_hint? | [s] u32:16..4294967280/16 <h>&b64 ; 8.0/90
cp .async .bulk .tensor .dim=@dim .d=shared::cluster .s=global .tile? .mbarrier::complete_tx::bytes .m=multicast::cluster? .h=L2::cache_hint? | [d] map:dim [shared] <m>&b16 <h>&b64 ; 8.0/90
cp .async .bulk .tensor .dim=@dim .d=shared::cta .s=global .tile? .mbarrier::complete_tx::bytes .h=L2::cache_hint? | [d] map:dim [shared] <h>&b64 ; 8.6/90
cp .async .bulk .tensor .dim=@dim .d=global .s=shared::cta .tile? .bulk_group .h=L2::cache_hint? | map:dim [s] <h>&b64 ; 8.0/90
cp .reduce .async .bulk .tensor .dim=@dim .d=global .s=shared::cta .op=add,min,max,inc,dec,and,or,xor .tile? .bulk_group .h=L2::cache_hint? | map:dim [s] <h>&b64 ; 8.0/90
cp .async .bulk .prefetch .tensor .dim=@dim .L2 .s=global .tile? .h=L2::cache_hint? | map:dim <h>&b64 ; 8.0/90
";
