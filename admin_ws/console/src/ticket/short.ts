/** Ten characters as people read them: two groups of five. */
export const grouped = (short: string): string => `${short.slice(0, 5)}-${short.slice(5)}`;
