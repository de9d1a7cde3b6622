//! Argo CD's Lua: gopher-lua, the interpreter that it uses itself.

use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Map, Value};

const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools.sh");

/// What a script answers about an object, as JSON. An empty table is an object; all numbers are floating.
pub fn run(script: &str, object: &Value) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let (file, driver) = (dir.path().join("script.lua"), dir.path().join("driver.lua"));
    std::fs::write(&file, script).unwrap();
    let path = literal(&Value::from(file.to_str().unwrap()));
    std::fs::write(&driver, format!("obj = {}\nlocal file = {path}\n{DRIVER}", literal(object))).unwrap();
    let output = Command::new(glua()).arg(&driver).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let answer = serde_json::from_str(&stdout);
    normal(answer.unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}\n{script}")))
}

/// JSON as [`run`] gives it, to compare with.
pub fn normal(value: Value) -> Value {
    match value {
        Value::Array(items) if items.is_empty() => Value::Object(Map::new()),
        Value::Array(items) => items.into_iter().map(normal).collect(),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(key, value)| (key, normal(value))).collect()),
        Value::Number(number) => number.as_f64().into(),
        other => other,
    }
}

/// Argo CD gives its scripts `table` and the basic functions, and neither strings nor mathematics.
const DRIVER: &str = r#"
local print, format, gsub, byte, concat = print, string.format, string.gsub, string.byte, table.concat
local function json(value)
  if type(value) == "string" then
    return '"' .. gsub(value, '[%c"\\]', function(c) return format("\\u%04x", byte(c)) end) .. '"'
  elseif type(value) == "number" then
    return format("%.17g", value)
  elseif type(value) ~= "table" then
    return tostring(value)
  end
  local parts = {}
  if #value > 0 then
    for _, item in ipairs(value) do parts[#parts + 1] = json(item) end
    return "[" .. concat(parts, ",") .. "]"
  end
  for key, item in pairs(value) do parts[#parts + 1] = json(key) .. ":" .. json(item) end
  return "{" .. concat(parts, ",") .. "}"
end
local script = assert(loadfile(file))
getmetatable("").__index = nil
string, math, io, debug, coroutine, channel = nil, nil, nil, nil, nil, nil
local answer = script()
print(json(answer))
"#;

/// A Lua expression.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::String(text) => {
            let escaped: String = text.bytes().map(|byte| format!("\\{byte:03}")).collect();
            format!("\"{escaped}\"")
        }
        Value::Array(items) => format!("{{{}}}", items.iter().map(literal).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let field =
                |(key, value): (&String, &Value)| format!("[{}]={}", literal(&key.clone().into()), literal(value));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// The interpreter, built at the first call on a machine.
fn glua() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let built = Command::new(TOOLS).args(["build", "glua"]).status().unwrap();
        assert!(built.success(), "tests/tools.sh build glua failed");
        let output = Command::new(TOOLS).args(["path", "glua"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}
