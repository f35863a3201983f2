export function real_cases() {}
