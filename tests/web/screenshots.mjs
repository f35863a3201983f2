export function screenshots() {}
