// Calls of a generated client; `typescript.py` appends one of each model.
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

type Schemas = components["schemas"];
const client = createClient<paths>({ baseUrl: process.argv[2] });

function print(name: string, status: number, content: unknown): void {
  console.log(JSON.stringify({ name, status, content }));
}

// What the types say beyond single rows: labels, parameters, errors, and the other routes.
const iris: Schemas["IrisRow"] = {
  sepal_length: 5.8, sepal_width: 2.7, petal_length: 4.1, petal_width: 1.0,
};
{
  const { data } = await client.POST("/models/iris/predict", {
    params: { query: { top: 1, warnings: false } },
    body: [iris, [5.1, 3.5, 1.4, 0.2]],
  });
  if (data === undefined || typeof data === "string" || !("predictions" in data)) throw data;
  for (const each of data.predictions) {
    if ("error" in each) throw each;
    const label: "setosa" | "versicolor" | "virginica" = each.label;
    const share: number | undefined = each.probabilities?.[label];
    print("list", 200, [label, share]);
  }
}
{
  const { data } = await client.POST("/models/house_price/predict", {
    params: { query: { interval: 0.9 } },
    body: { size: 1650, bedrooms: 3 },
  });
  if (data === undefined || typeof data === "string" || !("interval" in data)) throw data;
  const low: number | undefined = data.interval?.low;
  print("interval", 200, low !== undefined && low < data.value);
}
{
  const { data } = await client.GET("/models/{name}", { params: { path: { name: "iris" } } });
  const state: "LOADING" | "READY" | "UNLOADING" | "UNAVAILABLE" | undefined =
    data?.versions[0]?.state;
  print("model", 200, state);
}
{
  const { error, response } = await client.POST("/models/admission/predict", {
    body: { exam_1: 999, exam_2: 2 },
  });
  print("error", response.status, error?.code);
}
{
  const { data } = await client.GET("/health/ready");
  const ready: boolean | undefined = data?.ready;
  print("ready", 200, ready);
}
// @ts-expect-error A feature is missing.
void (() => client.POST("/models/iris/predict", { body: { sepal_length: 5.8 } }));
// @ts-expect-error A row as an array has four numbers.
void ([1, 2, 3] satisfies Schemas["IrisValues"]);
// @ts-expect-error There is no such level.
void (() => client.POST("/models/house_price/predict", { params: { query: { interval: 2 } }, body: [] }));
// @ts-expect-error There is no such path.
void (() => client.GET("/model"));
