use std::sync::Arc;
use pgpersist_core::{clock::*, logical::dump::*, progress::Silent, server::connection::*, store::local::LocalBackupStore};
#[tokio::main]
async fn main() {
    let c = ConnectionOptions { host: Host::parse("/tmp/pgl-bench"), port: 5432, user: "postgres".into(), database: "bench".into(), password: None };
    let o = DumpOptions::new(c, std::path::Path::new("/usr/lib/postgresql/15/bin"));
    let s = LocalBackupStore::open("/tmp/pgl-bench/store").unwrap();
    let key = format!("x{}.sql.gz", rand::random::<u32>()).parse().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let t = std::time::Instant::now();
    let d = dump_database(&o, "bench", &key, &s, &clock, &Silent).await.unwrap();
    println!("{:?} {} bytes {} sql {:?}", t.elapsed(), d.size_bytes, d.uncompressed_bytes, d.tables);
}
