//! Tables of numbers whose shortest form is hard to find, and of texts in every way
//! of storage.
#![allow(unreachable_pub)]

use super::values::{execute, literal};
use crate::kit::flips::Random;
use crate::kit::sample;
use tokio_postgres::Client;

/// Creates `floats`: random ones, powers of two and of ten with their
/// neighbours, and whole numbers halfway between shorter ones.
pub async fn create_floats(client: &Client, seed: u64) {
    let mut random = Random(seed);
    let mut eights: Vec<f64> = (0..12_000).map(|_| f64::from_bits(random.next())).collect();
    let mut fours: Vec<f32> = (0..12_000)
        .map(|_| f32::from_bits(u32::try_from(random.next() >> 32).expect("half")))
        .collect();
    for i in 0..2047 {
        let power = f64::from_bits(i << 52);
        eights.extend([power, power.next_up(), power.next_down()]);
    }
    for i in 0..255 {
        let power = f32::from_bits(i << 23);
        fours.extend([power, power.next_up(), power.next_down()]);
    }
    for i in -330..310 {
        let ten: f64 = format!("1e{i}").parse().expect("a number");
        eights.extend([ten, ten.next_up(), ten.next_down()]);
        let ten: f32 = format!("1e{i}").parse().expect("a number");
        fours.extend([ten, ten.next_up(), ten.next_down()]);
    }
    for _ in 0..4000 {
        let whole = random.next() >> random.below(64);
        eights.extend([whole as f64, (whole >> 11) as f64 * 5.0, whole as f64 / 1024.0]);
        fours.extend([whole as f32, (whole >> 40) as f32 * 5.0, whole as f32 / 1024.0]);
    }
    eights.retain(|value| value.is_finite());
    fours.retain(|value| value.is_finite());
    execute(client, "CREATE TABLE public.floats (a float4, b float8)").await;
    let fours = fours.iter().map(|value| format!("('{value:e}', NULL)"));
    let eights = eights.iter().map(|value| format!("(NULL, '{value:e}')"));
    let rows: Vec<String> = fours.chain(eights).collect();
    for rows in rows.chunks(2000) {
        execute(client, &format!("INSERT INTO public.floats VALUES {}", rows.join(", "))).await;
    }
}

/// Creates `stored`: texts of all lengths and of all degrees of disorder, in
/// each way of storage, by each method.
pub async fn create_stored(client: &Client, seed: u64) {
    execute(
        client,
        "CREATE TABLE public.stored (i int, plain text, main text, external text, extended text);
         ALTER TABLE public.stored ALTER plain SET STORAGE PLAIN, ALTER main SET STORAGE MAIN,
             ALTER external SET STORAGE EXTERNAL",
    )
    .await;
    let mut random = Random(seed);
    let methods: &[&str] = if sample::has_lz4(client).await { &["pglz", "lz4"] } else { &[""] };
    for method in methods {
        if !method.is_empty() {
            execute(
                client,
                &format!(
                    "ALTER TABLE public.stored ALTER main SET COMPRESSION {method},
                     ALTER extended SET COMPRESSION {method}"
                ),
            )
            .await;
        }
        for i in 0..300 {
            let longest = if i % 20 == 0 { 200_000 } else { 5000 };
            let texts = [400, 3000, longest, longest].map(|longest| {
                let text = disorder(random.below(longest), &mut random);
                literal(Some(&text))
            });
            let insert = format!("INSERT INTO public.stored VALUES ({i}, {})", texts.join(", "));
            execute(client, &insert).await;
        }
    }
}

/// Runs of one letter, copies of what came before from near and far, and
/// letters that nothing foretells.
fn disorder(length: usize, random: &mut Random) -> String {
    let mut text = Vec::with_capacity(length);
    let (runs, copies) = (random.below(40), random.below(60));
    while text.len() < length {
        let kind = random.below(100);
        let longest = if random.below(10) == 0 { 400 } else { 20 };
        let count = 1 + random.below(longest);
        let letter = b'a' + u8::try_from(random.below(26)).expect("a letter");
        if kind < runs {
            text.extend(std::iter::repeat_n(letter, count));
        } else if kind < runs + copies && !text.is_empty() {
            let begin = random.below(text.len());
            text.extend_from_within(begin..(begin + count).min(text.len()));
        } else {
            text.push(letter);
        }
    }
    text.truncate(length);
    String::from_utf8(text).expect("letters")
}
