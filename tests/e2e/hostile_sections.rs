//! Components with sections that are expensive to read: debug information, names, and others. They are uploaded in the usual time,
//! their traps cost as much as usual, and compiled code contains nothing of these sections.

use crate::harness::{Host, Receiver, event, example, guest, text};
use serde_json::{Value, json};
use std::borrow::Cow;
use wasm_encoder::{ComponentSectionId, CustomSection, Encode as _, NameMap, NameSection, RawSection, Section};
use wasmparser::{Parser, Payload};

/// Content of each hostile section, which must not occur in compiled code.
const MARK: &[u8] = b"a mark of the hostile sections";

pub(crate) type Sections = Vec<Box<dyn Section>>;

fn custom(name: &'static str, content: Vec<u8>) -> Box<dyn Section> {
    Box::new(CustomSection { name: Cow::Borrowed(name), data: Cow::Owned(content) })
}

/// Adds sections at the end of the first module of a component, which has the plugin's code, and after that module.
pub(crate) fn with_sections(component: &[u8], sections: &Sections) -> Vec<u8> {
    let mut hostile = component[..8].to_vec();
    let mut depth = 0;
    let mut in_module = Some(sections);
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.unwrap();
        match &payload {
            Payload::ModuleSection { unchecked_range, .. } if depth == 0 && in_module.is_some() => {
                let mut module = component[unchecked_range.clone()].to_vec();
                in_module.take().unwrap().iter().for_each(|section| section.append_to(&mut module));
                hostile.push(ComponentSectionId::CoreModule.into());
                module.encode(&mut hostile);
                sections.iter().for_each(|section| section.append_to(&mut hostile));
                depth += 1;
            }
            other => {
                if let Some((id, range)) = other.as_section().filter(|_| depth == 0) {
                    RawSection { id, data: &component[range] }.append_to(&mut hostile);
                }
                match other {
                    Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                    Payload::End(_) => depth -= 1,
                    _ => {}
                }
            }
        }
    }
    hostile
}

/// Returns DWARF 4, little endian, 4 bytes an address: many units, each with the attributes of one abbreviation.
fn units(abbreviation: &[(u8, u8)], count: usize, attributes: &[u8]) -> [Box<dyn Section>; 2] {
    const COMPILE_UNIT: u8 = 0x11;
    let mut abbreviations = vec![1, COMPILE_UNIT, 0];
    abbreviations.extend(abbreviation.iter().flat_map(|(name, form)| [*name, *form]));
    abbreviations.extend([0, 0, 0]);
    abbreviations.extend(MARK);
    let unit: Vec<u8> = [&4_u16.to_le_bytes()[..], &0_u32.to_le_bytes(), &[4, 1], attributes].concat();
    let unit = [&u32::try_from(unit.len()).unwrap().to_le_bytes()[..], &unit].concat();
    [custom(".debug_abbrev", abbreviations), custom(".debug_info", unit.repeat(count))]
}

const AT_LOW_PC: u8 = 0x11;
const AT_HIGH_PC: u8 = 0x12;
const AT_STMT_LIST: u8 = 0x10;
const AT_RANGES: u8 = 0x55;
const FORM_ADDR: u8 = 0x01;
const FORM_SEC_OFFSET: u8 = 0x17;

/// 40,000 units that share one list of 60,000 ranges: 2,400,000,000 ranges in total.
pub(crate) fn ranges() -> Sections {
    let mut list = Vec::new();
    for range in 0..60_000_u32 {
        list.extend([(range * 2 + 1).to_le_bytes(), (range * 2 + 2).to_le_bytes()].concat());
    }
    list.extend([0; 8]);
    list.extend(MARK);
    let attributes = [0_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat();
    let [abbreviations, info] = units(&[(AT_LOW_PC, FORM_ADDR), (AT_RANGES, FORM_SEC_OFFSET)], 40_000, &attributes);
    vec![abbreviations, info, custom(".debug_ranges", list)]
}

/// 20,000 units that each cover all code and share one table of 1,000,000 lines.
pub(crate) fn lines() -> Sections {
    // Version 4: header length, instruction length 1, operations 1, statement, line base -1, range 4, opcode base 1, no names.
    let header = [&6_u32.to_le_bytes()[..], &[1, 1, 1, 0xff, 4, 1, 0, 0]].concat();
    let program = [&4_u16.to_le_bytes()[..], &header, &vec![6; 1_000_000], MARK].concat();
    let program = [&u32::try_from(program.len()).unwrap().to_le_bytes()[..], &program].concat();
    let attributes = [0_u32.to_le_bytes(), 0x7fff_ffff_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat();
    let abbreviation = [(AT_LOW_PC, FORM_ADDR), (AT_HIGH_PC, FORM_ADDR), (AT_STMT_LIST, FORM_SEC_OFFSET)];
    let [abbreviations, info] = units(&abbreviation, 20_000, &attributes);
    vec![abbreviations, info, custom(".debug_line", program)]
}

/// Names of 15 KB for each of 500 functions, with control characters.
pub(crate) fn names() -> Sections {
    let mut names = NameMap::new();
    let long = format!("\u{1b}[31m{}", String::from_utf8_lossy(MARK).repeat(500));
    (0..500).for_each(|function| names.append(function, &long));
    let mut section = NameSection::new();
    section.module(&long);
    section.functions(&names);
    vec![Box::new(section)]
}

/// Unknown sections: 10,000 small ones, a large one, and some with names that tools use.
fn others() -> Sections {
    let known =
        ["producers", "sourceMappingURL", "external_debug_info", "metadata.code.branch_hint", "dylink.0", "core"];
    let mut sections: Sections = known.into_iter().map(|name| custom(name, MARK.to_vec())).collect();
    sections.extend((0..10_000).map(|_| custom("small", MARK.to_vec())));
    sections.push(custom("large", MARK.repeat(5_000_000 / MARK.len())));
    sections
}

/// Uploads a plugin that traps and lets it judge one event. Returns the attempt.
async fn trap(host: &Host, receiver: &Receiver, name: &str, component: Vec<u8>) -> Value {
    host.plugin(name, component).await;
    let path = format!("{}{name}", receiver.url);
    let subscription = host.subscription(&path, json!({"plugin": name})).await;
    let delivery = host.attempted(&host.send(event("Contact is Created", 1)).await).await;
    let end = host.ask(reqwest::Method::DELETE, &format!("./subscriptions/{subscription}"), "").await;
    assert!(end.status < 300, "{}", end.text);
    delivery["attempts"][0].clone()
}

fn message(attempt: &Value) -> &str {
    text(&attempt["reason"], "message")
}

fn cpu_us(attempt: &Value) -> u64 {
    attempt["steps"][0]["cost"]["cpu_us"].as_u64().unwrap_or_else(|| panic!("no cost in {attempt}"))
}

/// Returns true if a file of compiled code contains these bytes.
fn compiled_code_has(host: &Host, bytes: &[u8]) -> bool {
    let files: Vec<_> = std::fs::read_dir(host.data().join("compiled")).unwrap().collect();
    assert!(!files.is_empty());
    files
        .into_iter()
        .any(|file| std::fs::read(file.unwrap().path()).unwrap().windows(bytes.len()).any(|at| at == bytes))
}

#[tokio::test]
async fn sections_that_are_hostile_cost_nothing_and_names_stay() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let traps = guest("traps");
    let usual = trap(&host, &receiver, "usual", traps.clone()).await;
    assert!(message(&usual).contains("transform"), "no functions' names in {usual}");
    for (name, sections) in [("ranges", ranges()), ("lines", lines()), ("others", others())] {
        let attempt = trap(&host, &receiver, name, with_sections(&traps, &sections)).await;
        assert_eq!(message(&attempt), message(&usual), "{name}");
        assert!(cpu_us(&attempt) < cpu_us(&usual) + 40_000, "{name}: {attempt}");
    }
    assert!(!compiled_code_has(&host, MARK));
    let attempt = trap(&host, &receiver, "names", with_sections(&traps, &names())).await;
    let message = message(&attempt);
    assert!(
        message.contains("a mark of the hostile") && message.len() < 6_000 && !message.contains('\u{1b}'),
        "{attempt}"
    );
    assert!(cpu_us(&attempt) < cpu_us(&usual) + 40_000, "{attempt}");
    assert!(!compiled_code_has(&host, &MARK.repeat(5)), "names of any length");

    host.plugin("good", example("flatten")).await;
    host.subscription(&format!("{}good", receiver.url), json!({"plugin": "good"})).await;
    let delivery = host.ended(&host.send(event("Contact is Created", 2)).await).await;
    assert_eq!(text(&delivery, "state"), "delivered");
}

/// Checks that the commands for plugin authors strip them too.
#[tokio::test]
async fn a_hostile_section_is_nothing_to_an_author() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ranges.wasm");
    std::fs::write(&file, with_sections(&guest("traps"), &ranges())).unwrap();
    let checked = tokio::process::Command::new(crate::harness::program())
        .args(["plugin", "check", "--json"])
        .arg(&file)
        .env("XDG_CACHE_HOME", folder.path())
        .output()
        .await
        .unwrap();
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap_or_else(|_| panic!("{checked:?}"));
    assert!(text(&report["report"]["probe"], "reason").contains("transform"), "{report}");
}
