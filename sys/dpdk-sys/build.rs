//! Generates the bindings from the installed DPDK headers, and compiles the twins of
//! their static inline functions.

use std::env;
use std::fs;
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
    require_libclang();

    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let twins = out_dir.join("twins.c");
    generate(&cflags, &twins, &out_dir.join("bindings.rs"));
    compile(&cflags, &twins);

    link();
}

/// The shared libraries that the drivers of Debian's DPDK need.
const NEEDED: [&str; 10] = [
    "atomic", "bpf", "bsd", "ibverbs", "mlx4", "mlx5", "numa", "pcap", "xdp", "z",
];

/// Links DPDK itself statically: calls between its libraries and its thread-local variables, several a
/// packet, then go neither through a table nor through a function.
fn link() {
    let dir = pkg_config("--variable=libdir").concat();
    println!("cargo::rustc-link-search=native={dir}");
    let pc_dir = pkg_config("--variable=pcfiledir").concat();
    println!("cargo::rerun-if-changed={pc_dir}/libdpdk.pc");
    // A driver announces itself when the program starts: nothing refers to it.
    for name in archives(&dir) {
        let has_drivers = ["bus", "mempool", "net"]
            .iter()
            .any(|kind| name.starts_with(&format!("rte_{kind}_")));
        if has_drivers {
            println!("cargo::rustc-link-lib=static:+whole-archive,-bundle={name}");
        }
    }
    for name in archives(&dir).filter(|name| name.starts_with("rte_common_")) {
        println!("cargo::rustc-link-lib=static:-bundle={name}");
    }
    let words = pkg_config("--static --libs");
    let names = || words.iter().filter_map(|word| word.strip_prefix("-l"));
    for name in names().filter(|name| name.starts_with("rte_")) {
        println!("cargo::rustc-link-lib=static:-bundle={name}");
    }
    for name in NEEDED.iter().filter(|name| names().any(|n| n == **name)) {
        println!("cargo::rustc-link-lib=dylib={name}");
    }
}

/// DPDK's static libraries, without `lib` and `.a`.
fn archives(dir: &str) -> impl Iterator<Item = String> {
    let Ok(entries) = fs::read_dir(dir) else {
        fail(&format!("{dir} cannot be read"));
    };
    let name = |entry: Result<fs::DirEntry, _>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let name = name.strip_prefix("lib")?.strip_suffix(".a")?;
        name.starts_with("rte_").then(|| name.to_owned())
    };
    let mut names: Vec<String> = entries.filter_map(name).collect();
    if names.is_empty() {
        fail(&format!("{dir} has no static libraries of DPDK"));
    }
    names.sort();
    // Debian mends DPDK without another version in its file names.
    for name in &names {
        println!("cargo::rerun-if-changed={dir}/lib{name}.a");
    }
    names.into_iter()
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
    let output = Command::new("pkg-config")
        .args(what.split(' '))
        .arg("libdpdk")
        .output();
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
