// All answers as the CSV that `zeroshot predict --format csv` prints.

const COLUMNS = [
  "image", "prediction", "rank", "label", "score", "probability", "seen", "basis",
  "rejected", "error",
];

// A spreadsheet must not run what somebody else has named as a formula.
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  if (typeof value === "boolean") return value ? "True" : "False";
  let text = String(value);
  if (/^['\s]*[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function asCsv(results) {
  const lines = [COLUMNS];
  for (const { image, prediction, error, ranked } of results) {
    const rows = ranked.length ? ranked : [{}];
    rows.forEach((answer, i) => {
      const rank = ranked.length ? i + 1 : null;
      const row = { ...answer, image, prediction, error, rank };
      lines.push(COLUMNS.map((column) => row[column]));
    });
  }
  return `${lines.map((line) => line.map(cell).join(",")).join("\n")}\n`;
}

export function download(text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = "labels.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
