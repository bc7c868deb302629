//! Certificates for servers on the loopback, and for their clients.

use std::{fs, path::Path, process::Command};

/// Certificates in a new directory: an authority, a server for 127.0.0.1 and 10.99.0.1, a client, and
/// a stranger who signed himself. Whether they could be made.
///
/// # Panics
/// If `openssl` fails.
pub fn certificates(dir: &Path) -> bool {
    let Some(openssl) = testkit::need::tool("openssl") else { return false };
    fs::create_dir(dir).expect("it can be done");
    fs::write(dir.join("server.ext"), "subjectAltName=IP:127.0.0.1,IP:10.99.0.1\n")
        .expect("it can be done");
    fs::write(dir.join("client.ext"), "extendedKeyUsage=clientAuth\n").expect("it can be done");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let mut all =
        vec![format!("req -x509 {key} -keyout ca-key.pem -out ca.pem -subj /CN=ca -days 2")];
    for name in ["server", "client"] {
        all.push(format!("req {key} -keyout {name}-key.pem -out {name}.csr -subj /CN={name}"));
        all.push(format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 \
             -extfile {name}.ext -out {name}.pem"
        ));
    }
    all.push(format!("req -x509 {key} -keyout odd-key.pem -out odd.pem -subj /CN=odd -days 2"));
    for args in all {
        let mut command = Command::new(&openssl);
        let made = command
            .args(args.split_whitespace())
            .current_dir(dir)
            .output()
            .expect("it can be done");
        assert!(made.status.success(), "{args}: {}", String::from_utf8_lossy(&made.stderr));
    }
    true
}
