//! Generates the bindings from the installed DPDK headers, and compiles the twins of
//! their static inline functions.

use std::env;
use std::panic;
use std::path::PathBuf;
use std::process::{Command, exit};

const HEADER: &str = "shim.h";

fn main() {
    println!("cargo::rerun-if-changed={HEADER}");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");
    println!("cargo::rerun-if-env-changed=LIBCLANG_PATH");

    let mut cflags = pkg_config("--cflags");
    cflags.push("-DALLOW_EXPERIMENTAL_API".into());
    cflags.push("-D_GNU_SOURCE".into());
    let libs = pkg_config("--libs");
    require_libclang();

    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let twins = out_dir.join("twins.c");
    generate(&cflags, &twins, &out_dir.join("bindings.rs"));
    compile(&cflags, &twins);

    // EAL loads the drivers itself, so that the libraries are all there is to link.
    for lib in libs.iter().filter_map(|word| word.strip_prefix("-l")) {
        println!("cargo::rustc-link-lib=dylib={lib}");
    }
    for dir in libs.iter().filter_map(|word| word.strip_prefix("-L")) {
        println!("cargo::rustc-link-search=native={dir}");
    }
}

fn generate(cflags: &[String], twins: &std::path::Path, bindings: &std::path::Path) {
    let result = bindgen::Builder::default()
        .header(HEADER)
        .clang_args(cflags)
        .allowlist_function("(rte|penstock)_.*")
        .allowlist_type("rte_.*")
        .allowlist_var("(rte|RTE|RING_F|PKT|PENSTOCK)_.*")
        // Packed and aligned at once (E0588), or too large to derive for (E0277).
        .opaque_type("rte_arp_ipv4")
        .opaque_type("rte_arp_hdr")
        .opaque_type("rte_l2tpv2_combined_msg_hdr")
        .opaque_type("rte_gtp_psc_generic_hdr")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .derive_default(true)
        // Their indented examples would be taken for doctests.
        .generate_comments(false)
        .layout_tests(true)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .wrap_static_fns(true)
        .wrap_static_fns_path(twins)
        .generate();
    match result {
        Ok(generated) => generated
            .write_to_file(bindings)
            .expect("OUT_DIR is writable"),
        Err(error) => fail(&format!("bindgen cannot read DPDK's headers: {error}")),
    }
}

fn compile(cflags: &[String], twins: &std::path::Path) {
    let mut build = cc::Build::new();
    // A twin is on the packet path in debug builds too.
    build.file(twins).include(".").opt_level(3).warnings(false);
    for flag in cflags {
        build.flag(flag);
    }
    if let Err(error) = build.try_compile("penstock_dpdk_twins") {
        fail(&format!(
            "the C compiler cannot build DPDK's inline functions: {error}"
        ));
    }
}

fn pkg_config(what: &str) -> Vec<String> {
    let output = Command::new("pkg-config").args([what, "libdpdk"]).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        _ => fail("libdpdk was not found by pkg-config"),
    }
}

/// bindgen panics where it finds no libclang: one sentence reads better.
fn require_libclang() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let found = panic::catch_unwind(bindgen::clang_version).is_ok();
    panic::set_hook(hook);
    if !found {
        fail("libclang was not found");
    }
}

fn fail(problem: &str) -> ! {
    eprintln!("penstock-dpdk-sys: {problem}: run scripts/install");
    exit(1);
}
