// What a conversation asks of the model. Fields that are not set are not sent: the server's defaults hold.

export interface Settings {
  system: string;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  max_tokens?: number;
  seed?: number;
  repetition_penalty?: number;
  stop: string[];
  schema: string;  // a JSON schema, or empty
  tools: string;   // a JSON list of OpenAI's tools, or empty
}

export interface NumberField {
  name: "temperature" | "top_p" | "top_k" | "min_p" | "max_tokens" | "seed" | "repetition_penalty";
  label: string;
  hint: string;
  min: number;
  max: number;
  step: number;  // 1: whole numbers
}

export const kNumbers: NumberField[] = [
  { name: "temperature", label: "Temperature", hint: "0 always takes the likeliest token", min: 0, max: 10, step: 0.1 },
  { name: "top_p", label: "Top-p", hint: "keep the likeliest tokens up to this probability", min: 0, max: 1, step: 0.05 },
  { name: "top_k", label: "Top-k", hint: "keep this many tokens; 0 keeps all", min: 0, max: 1_000_000, step: 1 },
  { name: "min_p", label: "Min-p", hint: "drop tokens below this share of the likeliest", min: 0, max: 1, step: 0.01 },
  { name: "repetition_penalty", label: "Repetition penalty", hint: "above 1 repeats less", min: 0, max: 10, step: 0.05 },
  { name: "max_tokens", label: "Max tokens", hint: "of an answer", min: 1, max: 10_000_000, step: 1 },
  { name: "seed", label: "Seed", hint: "the same seed, the same answer", min: 0, max: 4_294_967_295, step: 1 },
];

export const default_settings = (): Settings => ({ system: "", stop: [], schema: "", tools: "" });

export function valid_number(field: NumberField, value: unknown): value is number {
  return typeof value === "number" && value >= field.min && value <= field.max && (field.step !== 1 || Number.isInteger(value));
}

// What of an unknown value are settings.
export function valid_settings(value: unknown): Settings | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const bag = value as Record<string, unknown>;
  const settings = default_settings();
  for (const name of ["system", "schema", "tools"] as const) {
    const text = bag[name];
    if (typeof text === "string") settings[name] = text;
  }
  if (Array.isArray(bag.stop)) settings.stop = bag.stop.filter((text): text is string => typeof text === "string" && text !== "");
  for (const field of kNumbers) {
    const number = bag[field.name];
    if (valid_number(field, number)) settings[field.name] = number;
  }
  return settings;
}

// Stop texts are typed one to a line, in which \n, \t and \\ stand for what cannot be typed there.
export const typed_stops = (stops: string[]) =>
  stops.map((text) => text.replace(/\\/g, "\\\\").replace(/\n/g, "\\n").replace(/\t/g, "\\t")).join("\n");
export const stops_typed = (lines: string) =>
  lines.split("\n").filter((line) => line !== "").map((line) =>
    line.replace(/\\([nt\\])/g, (_, letter: string) => (letter === "n" ? "\n" : letter === "t" ? "\t" : "\\")));

// Says what is wrong with the text of `schema` or `tools`, or nothing.
export function json_trouble(text: string, kind: "object" | "list"): string {
  if (text.trim() === "") return "";
  try {
    const value: unknown = JSON.parse(text);
    const right = kind === "list" ? Array.isArray(value) : typeof value === "object" && value !== null && !Array.isArray(value);
    return right ? "" : `expected a JSON ${kind}`;
  } catch (error) {
    return (error as Error).message;
  }
}

// The fields of a request. Texts that are no JSON were marked where they are typed, and are left out.
export function request_fields(settings: Settings): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const { name } of kNumbers) if (settings[name] !== undefined) fields[name] = settings[name];
  if (settings.stop.length) fields.stop = settings.stop;
  if (settings.schema.trim() && !json_trouble(settings.schema, "object")) {
    fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(settings.schema) } };
  }
  if (settings.tools.trim() && !json_trouble(settings.tools, "list")) fields.tools = JSON.parse(settings.tools);
  return fields;
}
