//! What a request with a token costs: the first with it, the next ones, and the judgement.
//!
//! ```text
//! cargo run --release -p fourfold-access --example cost
//! ```

use std::{
    io::{self, Write},
    time::Instant,
};

use fourfold_access::{
    Access, Algorithm, Credential, KeyOptions, Material, Options, Place, Secret, Verb, mint::Signer,
};
use serde_json::json;

const TOKENS: u32 = 5_000;

fn main() -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(cost())
}

async fn cost() -> io::Result<()> {
    let secret = Secret(b"a secret of the example, 32 bytes or more".to_vec());
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("the system gives random bytes");
    let key = |algorithm, material| KeyOptions { algorithms: vec![algorithm], kid: None, material };
    let options = Options {
        audience: vec!["fourfold".into()],
        keys: vec![
            key(Algorithm::Hs256, Material::Secret(secret.clone())),
            key(Algorithm::Es256, Material::Pem(pair.public_key_pem())),
        ],
        allow_no_expiry: true,
        ..Options::default()
    };
    let access = Access::start(options).await.expect("they can be meant");
    for signer in [
        Signer::of_secret(Algorithm::Hs256, None, &secret).expect("a secret signs"),
        Signer::of_pem(Algorithm::Es256, None, &pair.serialize_pem()).expect("a private key signs"),
    ] {
        let sign = |n| {
            let claims = json!({"aud": "fourfold", "sub": "ann", "jti": n, "read": ["news/*", "users/{sub}/**"]});
            signer.sign(claims.as_object().expect("an object")).expect("it signs")
        };
        let tokens: Vec<_> = (0..TOKENS).map(sign).collect();
        let mut spent = Vec::new();
        let mut who = None;
        for _ in 0..2 {
            let begun = Instant::now();
            for token in &tokens {
                let credential = Credential { token, place: Place::Header };
                who = Some(access.identify(Some(credential)).await.expect("it is good"));
            }
            spent.push(begun.elapsed() / TOKENS);
        }
        let who = who.expect("there was one");
        let begun = Instant::now();
        for _ in 0..TOKENS {
            access.judge(&who, Verb::Read, "users/ann/inbox/1", None).await.expect("they may");
        }
        let judged = begun.elapsed() / TOKENS;
        writeln!(io::stdout(), "{signer:?}: new {:?}, remembered {:?}, judged {judged:?}", spent[0], spent[1])?;
    }
    Ok(())
}
