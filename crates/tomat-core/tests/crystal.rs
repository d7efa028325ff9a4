//! Rows of crystals: written and read to the same whole numbers, moved exactly, refused where they are none.

use proptest::prelude::*;
use tomat_core::Error;
use tomat_core::crystal::{Answer, Condition, CrystalLanguage, CrystalRow, Resolution, Site};
use tomat_core::grid::LatticeParameters;

fn language(two: bool) -> CrystalLanguage {
    CrystalLanguage::new(if two { Resolution::Two } else { Resolution::One }, None).unwrap()
}

fn perovskite() -> CrystalRow {
    let cell = LatticeParameters::new([3.905, 3.905, 3.914, 90.0, 90.04, 90.0]).unwrap();
    let half = 0.5;
    let sites = [[0.0; 3], [half; 3], [half, half, 0.0], [half, 0.0, half], [0.0, half, half]];
    CrystalRow::of(cell, &[38, 22, 8, 8, 8], &sites, Resolution::One).unwrap()
}

#[test]
fn a_row_in_print() {
    let language = language(false);
    let mut row = perovskite();
    row.conditions =
        vec![Condition::Formula(vec![(8, 3), (22, 1), (38, 1)]), Condition::Column { slot: 3, bin: 17 }];
    let ids = language.encode(&row).unwrap();
    let printed = language.show(&ids).unwrap().join(" ");
    assert_eq!(
        printed,
        "[BOS] [CONDITIONS_START] 0 O 3 Ti 1 Sr 1 3 17 [CONDITIONS_END] \
         [LATTICE_START] 39 0 39 0 39 1 90 0 90 0 90 0 [LATTICE_END] \
         [ATOMS_START] Sr Ti O O O [ATOMS_END] \
         [POS_START] 0 0 0 512 512 512 512 512 0 512 0 512 0 512 512 [POS_END] [EOS]"
    );
    assert_eq!(language.decode(&ids).unwrap(), row);
}

#[test]
fn what_is_masked_is_answered_after_the_crystal() {
    let language = language(true);
    let mut row = perovskite();
    row.sites[2..].iter_mut().for_each(|site| site.element = None);
    row.sites[0].position = None;
    assert_eq!(row.masked(), (3, 1));
    let question = language.encode(&row).unwrap();
    row.answer = Some(Answer { elements: vec![8], positions: vec![[1, 2, 4095]] });
    let ids = language.encode(&row).unwrap();
    let printed = language.show(&ids).unwrap().join(" ");
    assert!(
        printed.contains("Sr Ti [MASK] [MASK] [MASK] [ATOMS_END] [POS_START] [MASK] [MASK] [MASK] 128 0")
    );
    assert!(printed.ends_with("[POS_END] [ANSWER_START] O 0 1 0 2 1023 3 [ANSWER_END] [EOS]"));
    assert_eq!(&ids[..question.len() - 1], &question[..question.len() - 1]);
    assert_eq!(language.decode(&ids).unwrap(), row);
    for answer in [
        Answer { elements: vec![8, 8], positions: vec![[0; 3]] },
        Answer { elements: vec![8], positions: vec![] },
        Answer { elements: vec![], positions: vec![[0; 3]] },
    ] {
        row.answer = Some(answer);
        assert!(matches!(language.encode(&row), Err(Error::Invalid(_))));
    }
}

type Spoil = fn(&mut CrystalRow);

#[test]
fn what_cannot_be_written_is_refused() {
    let far = LatticeParameters::new([103.0, 3.0, 3.0, 90.0, 90.0, 90.0]).unwrap();
    let error = CrystalRow::of(far, &[1], &[[0.0; 3]], Resolution::One).unwrap_err();
    assert_eq!(
        error.to_string(),
        "lattice parameter a = 103 angstrom cannot be written; rows of crystals hold up to 102.39 angstrom"
    );
    let flat = LatticeParameters::new([3.0, 3.0, 3.0, 90.0, 179.96, 90.0]).unwrap();
    assert!(matches!(
        CrystalRow::of(flat, &[1], &[[0.0; 3]], Resolution::One),
        Err(Error::CellOutOfRange { name: "beta", .. })
    ));
    assert!(Resolution::of(512).is_err());
    let language = language(false);
    let spoilt: [Spoil; 8] = [
        |row| row.sites.clear(),
        |row| row.sites[0].element = Some(119),
        |row| row.sites[0].position = Some([1024, 0, 0]),
        |row| row.lengths[0] = 0,
        |row| row.angles[2] = 1800,
        |row| row.conditions = vec![Condition::Atoms(5), Condition::Formula(vec![(8, 5)])],
        |row| row.conditions = vec![Condition::SpaceGroup(231)],
        |row| row.conditions = vec![Condition::Formula(vec![(8, 1), (8, 2)])],
    ];
    for spoil in spoilt {
        let mut row = perovskite();
        spoil(&mut row);
        assert!(matches!(language.encode(&row), Err(Error::Invalid(_))), "{row:?}");
    }
}

#[test]
fn a_damaged_row_names_its_block() {
    let language = language(false);
    let ids = language.encode(&perovskite()).unwrap();
    for at in 0..ids.len() {
        for id in [-1, 0, ids[at] + 1, i32::MAX] {
            let mut damaged = ids.clone();
            damaged[at] = id;
            // Another number or element is another crystal; all else is an error that says where.
            match language.decode(&damaged) {
                Ok(row) => assert_eq!(language.encode(&row).unwrap(), damaged),
                Err(Error::Sequence { position, .. }) => assert!(position <= at + 1),
                Err(other) => panic!("{other}"),
            }
        }
        assert!(matches!(language.decode(&ids[..at]), Err(Error::Sequence { .. })));
    }
}

prop_compose! {
    fn rows(two: bool)(
        lengths in prop::array::uniform3(1u32..=10_239),
        angles in prop::array::uniform3(1u32..=1799),
        atoms in prop::collection::vec((prop::option::weighted(0.8, 1u8..=118), any::<bool>(), prop::array::uniform3(0u16..4096)), 1..20),
        formula in prop::collection::btree_map(1u8..=118, 1u16..1024, 0..5),
        n in prop::option::of(0u16..1024),
        group in prop::option::of(1u16..=230),
        columns in prop::collection::btree_map(3u16..1024, 0u16..1024, 0..4),
        answered in any::<bool>(),
        shared in any::<bool>(),
    ) -> CrystalRow {
        let most = if two { 4096 } else { 1024 };
        let sites: Vec<Site> = atoms.iter().map(|&(element, placed, position)| Site {
            element,
            position: placed.then(|| position.map(|x| x % most)),
        }).collect();
        let mut conditions = Vec::new();
        if !formula.is_empty() {
            conditions.push(Condition::Formula(formula.into_iter().collect()));
        }
        conditions.extend(n.map(Condition::Atoms));
        conditions.extend(group.map(Condition::SpaceGroup));
        conditions.extend(columns.into_iter().map(|(slot, bin)| Condition::Column { slot, bin }));
        let mut row = CrystalRow { conditions, lengths, angles, sites, answer: None };
        let (elements, positions) = row.masked();
        if answered && elements + positions > 0 {
            let n = if shared && elements > 0 { 1 } else { elements };
            row.answer = Some(Answer { elements: vec![7; n], positions: vec![[5, 1023, 0]; positions] });
        }
        row
    }
}

proptest! {
    #[test]
    fn rows_come_back(two: bool, pad in 0usize..4, (one, other) in (rows(false), rows(true))) {
        let (language, row) = (language(two), if two { other } else { one });
        let mut ids = language.encode(&row).unwrap();
        ids.extend(vec![0; pad]);
        prop_assert_eq!(language.decode(&ids).unwrap(), row);
    }

    #[test]
    fn crystals_are_written_to_half_a_step(
        two: bool,
        parameters in (prop::array::uniform3(0.5f64..100.0), prop::array::uniform3(10.0f64..170.0)),
        atoms in prop::collection::vec((1u8..=118, prop::array::uniform3(-2.0f64..2.0)), 1..10),
    ) {
        let resolution = if two { Resolution::Two } else { Resolution::One };
        let ([a, b, c], [alpha, beta, gamma]) = parameters;
        let cell = LatticeParameters::new([a, b, c, alpha, beta, gamma]).unwrap();
        let (z, frac): (Vec<u8>, Vec<[f64; 3]>) = atoms.into_iter().unzip();
        let row = CrystalRow::of(cell, &z, &frac, resolution).unwrap();
        for (at, (written, given)) in row.lattice().into_iter().zip(cell.to_array()).enumerate() {
            let half = if at < 3 { 0.005 } else { 0.05 };
            prop_assert!((written - given).abs() <= half + 1e-9);
        }
        let n = f64::from(resolution.values());
        for (site, frac) in row.sites.iter().zip(&frac) {
            for (x, f) in site.position.unwrap().into_iter().zip(frac) {
                let gap = f64::from(x) / n - f;
                prop_assert!((gap - gap.round()).abs() <= 0.5 / n + 1e-9);
            }
        }
    }

    #[test]
    fn frames_are_a_group(two: bool, there in prop::array::uniform3(0u16..4096), (one, other) in (rows(false), rows(true))) {
        let resolution = if two { Resolution::Two } else { Resolution::One };
        let n = resolution.values();
        let row = if two { other } else { one };
        let step = there.map(|x| x % n);
        let mut moved = row.clone();
        moved.translate(step, resolution);
        for (site, before) in moved.sites.iter().zip(&row.sites) {
            if let (Some(now), Some(then)) = (site.position, before.position) {
                for axis in 0..3 {
                    prop_assert_eq!((then[axis] + step[axis]) % n, now[axis]);
                }
            }
        }
        moved.translate(step.map(|x| (n - x) % n), resolution);
        prop_assert_eq!(moved, row);
    }

    #[test]
    fn nothing_crashes_the_reader(two: bool, ids in prop::collection::vec(-2i32..1300, 0..60)) {
        let _ = language(two).decode(&ids);
    }
}
