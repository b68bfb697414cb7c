//! Stands for the crate round the generated entries: drivers that keep what they are given.
#![allow(dead_code)]

type Result<T> = std::result::Result<T, ()>;

mod backend {
    #[path = "KERNEL"]
    pub mod kernel;

    pub mod cuda {
        use std::cell::RefCell;

        #[derive(Clone, Copy, Debug)]
        #[repr(transparent)]
        pub struct Address(pub u64);
        pub struct Grid;
        #[derive(Default)]
        pub struct Stream(pub RefCell<Vec<Vec<u8>>>);

        impl Stream {
            pub fn launch(
                &self,
                info: &super::kernel::VariantInfo,
                _: Grid,
                arguments: &[&[u8]],
            ) -> crate::Result<()> {
                let mut kept = self.0.borrow_mut();
                kept.push(info.name.into());
                kept.extend(arguments.iter().map(|one| one.to_vec()));
                Ok(())
            }
        }
    }

    pub mod wgpu {
        #[derive(Clone, Copy)]
        pub struct Slice<'a>(pub &'a u32);
        pub struct Recorder<'a>(pub &'a mut Vec<Vec<u8>>);

        impl Recorder<'_> {
            pub fn dispatch(
                &mut self,
                info: &super::kernel::VariantInfo,
                workgroups: [u32; 3],
                parameters: &[u8],
                slices: &[Slice<'_>],
            ) -> crate::Result<()> {
                self.0.push(info.name.into());
                self.0.push(workgroups.map(|one| one as u8).to_vec());
                self.0.push(parameters.to_vec());
                self.0.push(slices.iter().map(|one| *one.0 as u8).collect());
                Ok(())
            }
        }
    }
}

mod kernels {
    include!(concat!(env!("OUT_DIR"), "/demo.rs"));
}
