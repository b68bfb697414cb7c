//! Forms of control flow, warp instructions, barriers, fences, mbarriers and clusters.

/// Control flow.
pub(super) const CONTROL: &str = "
bra .uni? | label
brx .idx .uni? | &u32 targets
ret .uni? |
exit |
trap |
brkpt |
nanosleep .t=u32 | t ; 6.2/70
pmevent | #u32:0..15
pmevent .mask | #u32:0..65535
";

/// Instructions of a warp. Those without `.sync` do not exist on the targets of this crate.
pub(super) const WARP: &str = "
shfl .sync .mode=up,down,bfly,idx .t=b32 | +t/?pred t u32 u32 u32 ; 6.0/0
vote .sync .mode=all,any,uni .t=pred | +t !t u32 ; 6.0/0
vote .sync .mode=ballot .t=b32 | +t !pred u32 ; 6.0/0
match .mode=any .sync .t=b32,b64 | +b32 t u32 ; 6.0/70
match .mode=all .sync .t=b32,b64 | +_b32/?pred t u32 ; 6.0/70
activemask .t=b32 | +t ; 6.2/0
redux .sync .op=add,min,max .t=@int32 | +t &t u32 ; 7.0/80
redux .sync .op=and,or,xor .t=b32 | +t &t u32 ; 7.0/80
elect .sync | +_b32/pred u32 ; 8.0/90
";

/// Barriers and fences.
pub(super) const BARRIER: &str = "
bar .warp .sync | u32 ; 6.0/0
bar .cta .sync | u32:0..15 ?u32:32..1024/32 ; 7.8/0
bar .sync | u32:0..15 ?u32:32..1024/32
bar .arrive | u32:0..15 u32:32..1024/32
bar .red .op=popc .t=u32 | +t u32:0..15 !pred
bar .red .op=popc .t=u32 | +t u32:0..15 u32:32..1024/32 !pred
bar .red .op=and,or .t=pred | +t u32:0..15 !pred
bar .red .op=and,or .t=pred | +t u32:0..15 u32:32..1024/32 !pred
barrier .sync .aligned? | u32:0..15 ?u32:32..1024/32 ; 6.0/0
barrier .cta .sync .aligned? | u32:0..15 ?u32:32..1024/32 ; 7.8/0
barrier .arrive .aligned? | u32:0..15 u32:32..1024/32 ; 6.0/0
barrier .cta .arrive .aligned? | u32:0..15 u32:32..1024/32 ; 7.8/0
barrier .cluster .arrive .aligned? | ; 7.8/90
barrier .cluster .arrive .sem=release,relaxed .aligned? | ; 8.0/90
barrier .cluster .wait .aligned? | ; 7.8/90
barrier .cluster .wait .acquire .aligned? | ; 8.0/90
fence .sem=sc,acq_rel .scope=@scope | ; 6.0/70
fence .sem=acquire,release .scope=@scope | ; 8.6/90
fence .proxy .async | ; 8.0/90
fence .proxy .async .ss=global,shared::cta,shared::cluster | ; 8.0/90
fence .mbarrier_init .release .cluster | ; 8.0/90
fence .proxy .tensormap::generic .release .scope=@scope | ; 8.3/90
fence .proxy .tensormap::generic .acquire .scope=@scope | [] #u32:128..128 ; 8.3/90
membar .scope=cta,gl,sys |
";

/// Asynchronous barriers in shared memory. A count on `arrive` is an sm_90 form; sm_80 has `.noComplete`.
pub(super) const MBARRIER: &str = "
mbarrier .init .ss=@cta? .t=b64 | [ss] u32:1..1048575 ; 7.0/80
mbarrier .inval .ss=@cta? .t=b64 | [ss] ; 7.0/80
mbarrier .op=arrive,arrive_drop .ss=@cta? .t=b64 | +_t [ss] ; 7.0/80
mbarrier .op=arrive,arrive_drop .noComplete .ss=@cta? .t=b64 | +_t [ss] u32:1..1048575 ; 7.0/80
mbarrier .op=arrive,arrive_drop .ss=@cta? .t=b64 | +_t [ss] u32:1..1048575 ; 7.8/90
mbarrier .op=arrive,arrive_drop .release .scope=cta,cluster .ss=@cta? .t=b64 | +_t [ss] ?u32:1..1048575 ; 8.0/90
mbarrier .op=arrive,arrive_drop .relaxed .scope=cta,cluster .ss=@cta? .t=b64 | +_t [ss] ?u32:1..1048575 ; 8.6/90
mbarrier .op=arrive,arrive_drop .ss=shared::cluster .t=b64 | _b64 [ss] ?u32:1..1048575 ; 8.0/90
mbarrier .op=arrive,arrive_drop .release .cluster .ss=shared::cluster .t=b64 | _b64 [ss] ?u32:1..1048575 ; 8.0/90
mbarrier .op=arrive,arrive_drop .relaxed .cluster .ss=shared::cluster .t=b64 | _b64 [ss] ?u32:1..1048575 ; 8.6/90
mbarrier .op=arrive,arrive_drop .expect_tx .ss=@cta? .t=b64 | +_t [ss] u32:0..1048575 ; 8.0/90
mbarrier .op=arrive,arrive_drop .expect_tx .release .scope=cta,cluster .ss=@cta? .t=b64 | +_t [ss] u32:0..1048575 ; 8.0/90
mbarrier .op=arrive,arrive_drop .expect_tx .release? .cluster? .ss=shared::cluster .t=b64 | _b64 [ss] u32:0..1048575 ; 8.0/90
mbarrier .op=expect_tx,complete_tx .relaxed? .scope=cta,cluster? .ss=shared,shared::cta,shared::cluster? .t=b64 | [ss] u32:0..1048575 ; 8.0/90
mbarrier .test_wait .ss=@cta? .t=b64 | +pred [ss] &t ; 7.0/80
mbarrier .test_wait .parity .ss=@cta? .t=b64 | +pred [ss] u32 ; 7.1/80
mbarrier .test_wait .acquire .scope=cta,cluster .ss=@cta? .t=b64 | +pred [ss] &t ; 8.0/90
mbarrier .test_wait .parity .acquire .scope=cta,cluster .ss=@cta? .t=b64 | +pred [ss] u32 ; 8.0/90
mbarrier .try_wait .ss=@cta? .t=b64 | +pred [ss] &t ?u32 ; 7.8/90
mbarrier .try_wait .parity .ss=@cta? .t=b64 | +pred [ss] u32 ?u32 ; 7.8/90
mbarrier .try_wait .acquire .scope=cta,cluster .ss=@cta? .t=b64 | +pred [ss] &t ?u32 ; 8.0/90
mbarrier .try_wait .parity .acquire .scope=cta,cluster .ss=@cta? .t=b64 | +pred [ss] u32 ?u32 ; 8.0/90
mbarrier .try_wait .relaxed .scope=cta,cluster .ss=@cta? .t=b64 | +pred [ss] &t ?u32 ; 8.6/90
mbarrier .try_wait .parity .relaxed .scope=cta,cluster .ss=@cta? .t=b64 | +pred [ss] u32 ?u32 ; 8.6/90
mbarrier .pending_count .t=b64 | +u32 &t ; 7.0/80
";

/// Clusters and the life of a grid.
pub(super) const CLUSTER: &str = "
mapa .ss=shared::cluster? .t=u32,u64 | +t %t u32 ; 7.8/90
getctarank .ss=shared::cluster? .t=u32,u64 | +u32 %t ; 7.8/90
griddepcontrol .op=launch_dependents,wait | ; 7.8/90
setmaxnreg .op=inc,dec .sync .aligned .t=u32 | #t:24..256/8 ; 8.0/90a
";
