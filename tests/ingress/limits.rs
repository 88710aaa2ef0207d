//! What clients may take: memory, places and time, also before anybody knows who they are.

use std::time::Duration;

use polar_jobs::ingress::Limits;
use private_postgres::testing::database;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::crash::start;
use crate::support::{Delivery, TestIngress, WEBHOOK, try_send};
use crate::wait::DEADLINE;

/// A mebibyte announced, and as much of it sent.
async fn half_sent(address: std::net::SocketAddr, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST {WEBHOOK} HTTP/1.1\r\nhost: test\r\ncontent-length: 1048576\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; sent]).await.unwrap();
    stream
}

/// The most that a process ever had in memory, in MiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_half_sent_bodies_take_a_bounded_memory_and_deliveries_go_on() {
    let database = database(polar_jobs::migrate::migrator).await;
    let (mut child, address) = start(&database.url).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let halves = (0..50).map(|_| half_sent(address, 900_000));
        open.extend(futures::future::join_all(halves).await);
    }
    let delivery = Delivery::grant();
    let answer = delivery.try_send(address).await.unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let peak = peak_memory(child.id().unwrap());
    // The bodies alone are 343 MiB, and buffers that double twice that. With the bound the program takes 160 to 210, for
    // what the allocator keeps differs from run to run.
    assert!(peak < 300, "{peak} MiB for {} connections", open.len());
    child.kill().await.unwrap();
}

#[tokio::test]
async fn without_memory_a_sender_is_asked_to_come_again_and_gets_through_later() {
    // One body that is being sent takes between what has come of it and the most that one may have; the
    // rest is less than another large one needs.
    let limits = Limits {
        body_bytes: 1_300_000,
        ..Limits::default()
    };
    let ingress = TestIngress::limited(limits, String::new()).await;
    let large = Delivery::new(vec![b'x'; 500_000]);
    // Whichever of the two comes first has the memory: again until it is the one that is only half sent.
    let mut holders = Vec::new();
    let refused = async {
        loop {
            holders.push(half_sent(ingress.address, 900_000).await);
            let answer = ingress.deliver(&large).await;
            if answer.status == 503 {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(DEADLINE, refused).await.unwrap();
    assert!(answer.head.contains("retry-after: "), "{answer:?}");
    assert_eq!(ingress.deliver(&Delivery::grant()).await.status, 202);
    drop(holders);
    crate::support::until("the memory is given back", || async {
        ingress.deliver(&large).await.status == 202
    })
    .await;
}

#[tokio::test]
async fn who_does_not_read_its_answers_loses_its_place() {
    let limits = Limits {
        connections: 1,
        write_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let ingress = TestIngress::limited(limits, "x".repeat(1 << 20)).await;
    let mut greedy = TcpStream::connect(ingress.address).await.unwrap();
    // Far more than the buffers of both kernels hold.
    let asked = b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n".repeat(64);
    greedy.write_all(&asked).await.unwrap();
    let next = try_send(ingress.address, "GET", "/health", &[], b"");
    let answer = tokio::time::timeout(DEADLINE, next).await.unwrap().unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_slow_reader_that_reads_gets_all() {
    let limits = Limits {
        write_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let ingress = TestIngress::limited(limits, "x".repeat(8 << 20)).await;
    let mut stream = TcpStream::connect(ingress.address).await.unwrap();
    let asked = b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    stream.write_all(asked).await.unwrap();
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        // Slower than it could, faster than it must.
        tokio::time::sleep(Duration::from_millis(20)).await;
        match tokio::io::AsyncReadExt::read(&mut stream, &mut buffer)
            .await
            .unwrap()
        {
            0 => break,
            some => read += some,
        }
    }
    assert!(read > 8 << 20, "{read}");
}

#[tokio::test]
async fn a_head_larger_than_the_buffer_is_refused() {
    let ingress = TestIngress::start().await;
    let long = vec![b'x'; 64 << 10];
    match try_send(ingress.address, "GET", "/health", &[("x-long", long)], b"").await {
        Ok(answer) => assert_eq!(answer.status, 431, "{answer:?}"),
        // It may still have been writing when the answer came.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    assert_eq!(ingress.get("/health").await.status, 200);
}
